private import OVXControl
private import OVXDatapath

/// libFuzzer's door to the control socket: bytes as they arrive there, on to the commands, which
/// are carried out.
///
/// Findings are a trap, a stream that is understood otherwise when it comes in other pieces, a
/// refused request that has changed something, an accepted one that has changed something else than
/// it says, or leaves a state behind that could not be put in force or that nobody could write
/// down, and a sentence that is none.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzRequests(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  var input = unsafe Input(start, count)
  let bytes = input.takeRest()
  let whole = Conversation(of: bytes, inPiecesOf: max(bytes.count, 1))
  let pieces = Conversation(of: bytes, inPiecesOf: 7)
  // Of several faults the decoder may name any: the members of an object have no order.
  if whole.requests != pieces.requests || (whole.refusal == nil) != (pieces.refusal == nil) {
    finding("The stream means something else when it comes in pieces.")
  }
  if let refusal = whole.refusal { check(refusal) }
  var configuration = Bench.configuration
  for request in whole.requests {
    check(request)
    carryOut(request, on: &configuration)
  }
  return 0
}

/// What the daemon would take from a stream.
private struct Conversation {
  var requests: [Request] = []
  var refusal: ControlError?

  init(of bytes: [UInt8], inPiecesOf size: Int) {
    var decoder = MessageDecoder<Request>()
    do throws(ControlError) {
      for start in stride(from: 0, to: bytes.count, by: size) {
        decoder.append(bytes[start..<min(start + size, bytes.count)])
        while let request = try decoder.next() { requests.append(request) }
      }
    } catch {
      refusal = error
    }
  }
}

/// A request that was understood is written as one that means the same.
private func check(_ request: Request) {
  do throws(ControlError) {
    var decoder = MessageDecoder<Request>(limit: .max)
    decoder.append(try request.messageBytes())
    let again = try decoder.next()
    guard again == request else { finding("A request comes back otherwise: \(request)") }
  } catch {
    finding("A request does not come back: \(error)")
  }
}

private func carryOut(_ request: Request, on configuration: inout Configuration) {
  let before = configuration
  let response: Response
  do throws(ControlError) {
    let transaction = try Transaction.execute(
      request.commands, on: &configuration, live: Bench.live)
    if configuration != before { Bench.check(configuration) }
    guard transaction.changes == configuration.changes(since: before) else {
      finding("Something else has changed than it says: \(transaction.changes)")
    }
    for change in before.changes(to: configuration) where change.description.isEmpty {
      finding("A change without a word.")
    }
    response = Response(
      .done(transaction.replies.map { $0 ?? .show(Show(configuration) { _ in nil }) }),
      notes: transaction.notes)
  } catch {
    guard configuration == before else { finding("Half applied, in spite of: \(error)") }
    check(error)
    response = Response(.failed(error))
  }
  do throws(ControlError) {
    var decoder = MessageDecoder<Response>()
    decoder.append(try response.messageBytes())
    let again = try decoder.next()
    guard again == response else { finding("A response comes back otherwise: \(response)") }
  } catch {
    finding("A response does not come back: \(error)")
  }
}
