internal import OVXControl

/// What the switch was told of its gateways last, which it knows for as long as the connection
/// lasts on which it was.
struct ToldReport: ~Copyable {
  private let client: ControlClient
  private let messages: Messages
  private var told: GatewayReport?
  private var held: HeldReport?
  /// Seconds that the switch has for an answer.
  private static let timeout = 10.0

  init(_ client: ControlClient, _ messages: Messages) {
    self.client = client
    self.messages = messages
  }

  /// Tells how gateways are, unless the switch knows.
  ///
  /// - Parameter report: All that is to be known.
  /// - Throws: That the switch does not answer. One that does not want to know is told of in the
  ///   log.
  mutating func tell(_ report: GatewayReport) throws(ControlError) {
    if held?.hasEnded == true {
      held = nil
      told = nil
    }
    guard report != told else { return }
    do throws(ControlError) {
      // The former connection ends when the switch has taken this one in its place.
      held = try client.hold(report, timeout: Self.timeout)
      messages.clear(.report)
    } catch {
      held = nil
      guard error.kind != .unavailable, error.kind != .timedOut else {
        told = nil
        throw error
      }
      messages.tell(
        "the switch does not take a report of its gateways: \(error.message)", about: .report)
    }
    told = report
  }
}
