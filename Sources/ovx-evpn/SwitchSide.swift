private import Foundation
private import Glibc
internal import OVXControl
internal import OVXDatapath
private import OVXEVPN
private import SystemPackage

/// The switch of this host: one thread hears what it tells, another one tells it what others have.
struct SwitchSide {
  private let core: Core
  private let client: ControlClient
  /// Where ovx-evpn itself answers.
  private let answers: String
  /// Seconds that the daemon has for an answer.
  private static let patience = 30.0

  init(_ core: Core, runDirectory: String) {
    self.core = core
    client = ControlClient(runDirectory: runDirectory)
    answers = EVPNSocket.path(in: runDirectory)
  }

  func start() throws(ControlError) {
    let (core, socket, answers) = (core, client.socketPath.string, answers)
    Thread { SwitchSide(core, socket: socket, answers: answers).listen() }.start()
    Thread { SwitchSide(core, socket: socket, answers: answers).tell() }.start()
  }

  private init(_ core: Core, socket: String, answers: String) {
    self.core = core
    self.answers = answers
    client = ControlClient(socket: socket)
  }

  /// Follows the switch's tables, for as long as the process runs.
  private func listen() -> Never {
    while true {
      do throws(ControlError) {
        var watch = try client.watch(
          [.host, .network, .station, .neighbor], timeout: Self.patience)
        core.clear("switch", "the switch answers")
        // Each daemon may have another group than the one before.
        if let failure = AnswerService.share(answers, with: client.socketPath.string) {
          core.tell(failure, about: "group")
        }
        core.update { agent, _ in agent.switchConnected() }
        while true {
          guard let first = try watch.next() else { continue }
          // What has come by now is taken in at once.
          var events = [first]
          while events.count < 1000, let next = try watch.next(within: 0) { events.append(next) }
          core.update { [events] agent, now in
            for event in events { agent.switchTold(event, at: now) }
          }
        }
      } catch {
        core.tell(error.message, about: "switch")
        core.update { agent, _ in agent.switchLost() }
        usleep(200_000)
      }
    }
  }

  /// Tells the switch of other hosts, for as long as the process runs.
  private func tell() -> Never {
    while true {
      core.awaitSwitchNews(milliseconds: core.switchDelay())
      core.update(wakesSwitch: false) { agent, now in agent.tick(at: now) }
      while let update = core.nextUpdate() {
        do throws(ControlError) {
          let replies = try client.replies(to: [.agent(update)], timeout: Self.patience)
          for sentence in replies.flatMap(\.nameList) { core.tell(sentence, about: sentence) }
          core.clear("updates", "the switch takes what it is told")
        } catch {
          core.tell("the switch does not take what it is told: \(error.message)", about: "updates")
          core.update(wakesSwitch: false) { agent, now in agent.updateFailed(at: now) }
          usleep(500_000)
        }
      }
      ask()
    }
  }

  /// Asks the switch whether hosts are there of which nobody tells any more.
  private func ask() {
    let vteps = core.questions()
    guard !vteps.isEmpty else { return }
    do throws(ControlError) {
      guard
        case .signs(let signs)? = try client.replies(
          to: [.signs(vteps: vteps)], timeout: Self.patience
        ).first
      else { return }
      core.update(wakesSwitch: false) { agent, now in agent.heard(vteps, signs, at: now) }
    } catch {
      core.tell("the switch does not say which hosts are there: \(error.message)", about: "signs")
      usleep(200_000)
    }
  }
}

extension Core {
  /// Milliseconds until the switch may have to be told or asked something.
  fileprivate func switchDelay() -> Int {
    Int((try? take { (agent, now) throws(ControlError) in agent.delay(at: now) }) ?? 500)
  }

  fileprivate func questions() -> [IPAddress] {
    (try? take { (agent, now) throws(ControlError) in agent.questions(at: now) }) ?? []
  }

  fileprivate func nextUpdate() -> AgentUpdate? {
    (try? take { (agent, now) throws(ControlError) in agent.takeUpdate(at: now) }) ?? nil
  }
}
