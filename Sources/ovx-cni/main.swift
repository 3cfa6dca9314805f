private import FoundationEssentials
private import SystemPackage
private import Glibc
private import OVXControl

ProcessStart.openStandardStreams()
// Whoever does not take what is written is told by an error number.
signal(SIGPIPE, SIG_IGN)
// Engines give none.
if CommandLine.arguments.count > 1 {
  do {
    let installation = try Installation(Array(CommandLine.arguments.dropFirst()))
    for sentence in try installation.carryOut() { _ = StandardStreams.write(sentence) }
    exit(0)
  } catch {
    _ = try? FileDescriptor.standardError.writeAll("ovx-cni: \(error.message)\n".utf8)
    exit(1)
  }
}
let plugin = Plugin(environment: ProcessInfo.processInfo.environment)
let answer = plugin.answer { () throws(PluginError) in try StandardStreams.read() }
if let output = answer.output, !StandardStreams.write(output.text) {
  if let undo = answer.undo { plugin.undo(undo) }
  exit(1)
}
exit(answer.status)
