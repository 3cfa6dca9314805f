internal import OVXControl

extension ControlServer {
  /// A program that is connected, and what it is in the middle of.
  struct Client {
    let number: UInt64
    let descriptor: Int32
    let peer: Peer
    let right: Right
    var decoder = MessageDecoder<Request>()
    /// A request that waits until there is memory for its answer.
    var waiting: Request?
    /// What is still to be made of the answer.
    var answer: AnswerStream?
    /// Whether it is a table, which others go before.
    var isTable = false
    /// A piece of it, and how many bytes of that have left.
    var output: [UInt8] = []
    var sentCount = 0
    /// Seconds on the monotonic clock when it last sent something, or took a piece of an answer.
    var lastActive: Int64
    /// When the request began to arrive that is not complete.
    var requestStart: Int64?
    /// Nothing is read any more, and the client goes once its output has left.
    var isClosing = false
    /// There may be a whole request among what has been received.
    var mayHoldRequest = false
    /// A request that cannot be answered yet, and when it came, in milliseconds on the monotonic
    /// clock.
    var postponed: (request: Request, time: Int64)?
    /// A request that waits until something is so.
    var held: HeldRequest?
    /// What is told behind the answer, for as long as the client listens.
    var watch: WatchStream?
    /// Whether something that it has told holds for as long as it is connected.
    var isLasting = false

    func hasOutput(_ log: ChangeLog) -> Bool {
      sentCount < output.count || answer != nil || watch?.hasNews(log) == true
    }
    /// Bytes of memory that its answer holds, about.
    var cost: Int { output.count + (answer?.cost ?? 0) + (watch?.cost ?? 0) }
  }
}
