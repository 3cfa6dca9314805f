private import Foundation
private import Glibc
private import OVXControl

ProcessStart.openStandardStreams()
// Whoever does not take what is written is told by an error number.
signal(SIGPIPE, SIG_IGN)
let plugin = Plugin(environment: ProcessInfo.processInfo.environment)
let answer = plugin.answer { () throws(PluginError) in try StandardStreams.read() }
if let output = answer.output, !StandardStreams.write(output.text) {
  if let undo = answer.undo { plugin.undo(undo) }
  exit(1)
}
exit(answer.status)
