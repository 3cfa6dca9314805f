private import Glibc
private import OVXControl

ProcessStart.openStandardStreams()
exit(Invocation.run(ProcessStart.arguments))
