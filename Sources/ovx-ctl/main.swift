private import Glibc

exit(Invocation.run(Array(CommandLine.arguments.dropFirst())))
