private import Logging
internal import OVXControl
internal import OVXDatapath
internal import OVXHost
internal import OVXLinux
private import OVXStorage

// What a daemon gives to the one that takes its place, and what it takes from the one before.

extension Daemon {
  private var reconciler: Reconciler { running.reconciler }
  private var dataplane: Switch { running.dataplane }

  // MARK: Giving

  /// Whether something of a port is not in service.
  func hasFault(_ port: String) -> Bool { reconciler.fault(of: port) != nil }

  /// Whether the device of a port is in a container, whose user can make of it what he likes.
  func isInContainer(_ port: String) -> Bool {
    reconciler.desired.devices[port]?.place.interface != nil
  }

  /// How many ports are in service whose devices are in containers.
  var containerPortCount: Int {
    reconciler.desired.devices.count { $0.value.place.interface != nil && !hasFault($0.key) }
  }

  /// Whether a container is another one than when its port was opened, which this daemon has yet to
  /// see to.
  var areContainersRestarted: Bool { reconciler.areContainersRestarted }

  /// Lets the database go, and has the switch forward all frames itself: programs in the kernel go
  /// with their process.
  ///
  /// - Throws: Why the database stays; nothing has changed then.
  func lend() throws(ControlError) {
    // What has happened so far is history for the next one, too.
    events.note(.stop, "ovx-vswitchd hands over to another process")
    events.work(now: .max)
    do throws(ControlError) { try database.lend() } catch {
      noteReturn()
      throw error
    }
    reconciler.setFastPathAside()
  }

  private func noteReturn() {
    events.note(
      .start, "ovx-vswitchd goes on, as the process that was to take its place has come to nothing")
  }

  /// Reads nothing from now on.
  func suspend() { dataplane.suspend() }

  /// Goes on after a handover that has come to nothing.
  func takeBack() {
    dataplane.resume()
    reconciler.takeFastPathUp()
    noteReturn()
    do throws(ControlError) { try database.reclaim() } catch {
      logger.critical(
        "\(error.message); what is in force stays, and cannot be changed until ovx-vswitchd is restarted"
      )
    }
  }

  /// Leaves everything to the daemon that has taken this one's place.
  func giveUp() { database.giveUp() }

  var handedDescriptors: [(HandedDescriptor, Int32)] { reconciler.handed(dataplane.sources) }

  /// What an agent has told.
  var handedAgent: [HandoverMessage] {
    reconciler.handedAgent(now: monotonicMilliseconds()).compactMap { update in
      (try? Request(commands: [.agent(update)]).messageBytes()).map { .agent($0) }
    }
  }

  /// All tables, for which frames wait; the switch does not read anyway.
  var handedTables: [HandoverMessage] { running.handedTables(slotsAtATime: .max) }

  var handedCounters: [HandoverMessage] {
    let dataplane = dataplane
    return reconciler.handedCounters { port in
      PortCounters.sum(dataplane.performOnAll { $0.counters(of: port) })
    }
  }

  // MARK: Taking

  /// Why ports are not in service, or only in part.
  var faultSentences: [String: String] { reconciler.faults.mapValues(\.sentence) }

  /// Takes what the former daemon knew from an agent; what makes no sense is left out.
  func takeAgent(_ updates: [[UInt8]]) {
    for bytes in updates {
      var decoder = MessageDecoder<Request>()
      decoder.append(bytes)
      guard let request = try? decoder.next(), request.commands.count == 1,
        case .agent(let update) = request.commands[0], (try? update.validate()) != nil
      else { continue }
      _ = reconciler.take(update, now: monotonicMilliseconds())
    }
  }

  /// Takes a table, or counters; what has no place here is left out.
  func take(_ message: HandoverMessage) {
    switch message {
    case .addresses(let bridge, let handed):
      guard let id = reconciler.bridge(bridge) else { return }
      let known = reconciler.known(handed)
      _ = dataplane.performOnAll { datapath in
        for entry in known { datapath.inherit(entry, bridge: id) }
      }
    case .neighbors(let bridge, let handed):
      guard let id = reconciler.bridge(bridge) else { return }
      let known = reconciler.known(handed)
      _ = dataplane.performOnAll { datapath in
        for entry in known { datapath.inherit(entry, bridge: id) }
      }
    case .counters(let handed):
      let known = handed.compactMap { entry in
        (entry.port.isEmpty ? PortID.none : reconciler.port(entry.port)).map {
          ($0, entry.counters)
        }
      }
      // Of what several workers count there is the sum.
      dataplane.perform { datapath in
        for (port, counters) in known { datapath.inherit(counters, of: port) }
      }
    default: break
    }
  }
}
