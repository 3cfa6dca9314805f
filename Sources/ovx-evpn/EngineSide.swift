internal import GRPCCore
private import GRPCNIOTransportHTTP2Posix
private import GRPCProtobuf
private import GoBGP
private import OVXControl
private import OVXEVPN
private import SwiftProtobuf

/// gobgpd: hears its routes, and tells it this host's.
struct EngineSide {
  private let core: Core
  private let socket: String

  init(_ core: Core, socket: String) {
    self.core = core
    self.socket = socket
  }

  /// Bytes of a message from the engine; it puts what has changed at once into one.
  private static let messageLimit = 1 << 30
  /// Milliseconds after a failure before the engine is tried again, at first and at most.
  private static let pauses: ClosedRange<Int> = 100...3000

  /// Serves the engine, for as long as the process runs.
  func run() async {
    var pause = Self.pauses.lowerBound
    while true {
      let begin = ContinuousClock.now
      do {
        let transport = try HTTP2ClientTransport.Posix(
          target: .unixDomainSocket(path: socket, authority: "localhost"),
          transportSecurity: .plaintext)
        try await withGRPCClient(transport: transport) { client in
          try await EngineSession(client, core, messageLimit: Self.messageLimit).run()
        }
        core.tell("gobgpd has ended the connection", about: "engine")
      } catch {
        core.tell("gobgpd does not answer on \(socket): \(Self.reason(error))", about: "engine")
      }
      core.update { agent, now in agent.engineLost(at: now) }
      // An engine that was there for a while is tried again at once.
      if ContinuousClock.now - begin > .seconds(10) { pause = Self.pauses.lowerBound }
      try? await Task.sleep(for: .milliseconds(pause))
      pause = min(2 * pause, Self.pauses.upperBound)
    }
  }

  private static func reason(_ error: any Error) -> String {
    switch error {
    // Each major version of gobgpd has an API of another name: 4 api.GoBgpService, 2
    // gobgpapi.GobgpApi.
    case let error as RPCError where error.code == .unimplemented:
      "it is not of version 3, the only one that ovx-evpn speaks with (\(error.message)); install gobgpd 3.x"
    case let error as RPCError: error.message
    case let error as ControlError: error.message
    default: "\(error)"
    }
  }
}

/// One connection to the engine.
struct EngineSession<Transport: ClientTransport>: Sendable {
  /// From one question for the peers to the next at least; a route that is withdrawn waits longer
  /// than that in any case (`Withdrawals.quiet`).
  private static var peersPause: Duration { .milliseconds(100) }

  private let client: GRPCClient<Transport>
  private let core: Core
  private let messageLimit: Int

  fileprivate init(_ client: GRPCClient<Transport>, _ core: Core, messageLimit: Int) {
    self.client = client
    self.core = core
    self.messageLimit = messageLimit
  }

  private func options(timeout: Duration? = nil) -> CallOptions {
    var options = CallOptions.defaults
    options.timeout = timeout
    options.waitForReady = false
    options.maxResponseMessageBytes = messageLimit
    options.maxRequestMessageBytes = messageLimit
    return options
  }

  /// Runs until the engine has gone, or says something that cannot be.
  fileprivate func run() async throws {
    let global = try await client.unary(
      request: ClientRequest(message: Apipb_GetBgpRequest()), descriptor: GoBGPService.getBgp,
      serializer: ProtobufSerializer(), deserializer: ProtobufDeserializer<Apipb_GetBgpResponse>(),
      options: options(timeout: .seconds(10))
    ) { try $0.message.global }
    guard let identity = Agent.Identity(global) else {
      throw ControlError("it has no AS number and router id; configure [global.config]")
    }
    core.clear("engine", "gobgpd answers: AS \(identity.asn), router id \(identity.routerID)")
    try await withThrowingTaskGroup(of: Void.self) { group in
      let (registrations, registered) = AsyncStream<Void>.makeStream()
      group.addTask { try await watch(registered) }
      group.addTask {
        // From here on the engine tells each change; what was before is listed.
        for await _ in registrations { break }
        try Task.checkCancellation()
        core.update { agent, now in agent.engineConnected(identity, at: now) }
        try await withThrowingTaskGroup(of: Void.self) { group in
          group.addTask { try await ask() }
          group.addTask { try await announce() }
          try await group.next()
          group.cancelAll()
        }
      }
      defer { group.cancelAll() }
      try await group.next()
    }
  }

  /// Hears what changes.
  private func watch(_ registered: AsyncStream<Void>.Continuation) async throws {
    var request = Apipb_WatchEventRequest()
    request.peer = .init()
    var filter = Apipb_WatchEventRequest.Table.Filter()
    filter.type = .best
    request.table.filters = [filter]
    try await client.serverStreaming(
      request: ClientRequest(message: request), descriptor: GoBGPService.watchEvent,
      serializer: ProtobufSerializer(),
      deserializer: ProtobufDeserializer<Apipb_WatchEventResponse>(), options: options()
    ) { response in
      for try await message in response.messages {
        switch message.event {
        case .peer(let peer):
          // The end of the peers that there are already is the first word of a watch that is in
          // force.
          if peer.type == 2 { registered.yield() }
          core.wake()
        case .table(let table):
          let paths = table.paths.map(ReceivedPath.init)
          core.update { agent, now in agent.received(paths, at: now) }
        case nil: break
        }
      }
    }
  }

  /// Asks for what is to be asked for: peers each second and whenever it matters, and all routes.
  private func ask() async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      let (news, tick) = core.listen()
      group.addTask {
        while true {
          tick.yield()
          try await Task.sleep(for: .seconds(1))
        }
      }
      group.addTask {
        var lastPeers: ContinuousClock.Instant?
        for await _ in news {
          let (wantsList, wantsPeers) = core.wants()
          if wantsList { try await list() }
          let isDue = lastPeers.map { ContinuousClock.now - $0 >= .milliseconds(950) } ?? true
          if wantsPeers || isDue {
            // The engine counts all routes of all peers for an answer: asked for each batch of ten
            // thousand withdrawals, it would do nothing else.
            if let lastPeers {
              try await Task.sleep(until: lastPeers + Self.peersPause, clock: .continuous)
            }
            try await askPeers()
            lastPeers = .now
          }
        }
      }
      try await group.next()
      group.cancelAll()
    }
  }

  private func askPeers() async throws {
    core.peersRequested()
    let peers = try await client.serverStreaming(
      request: ClientRequest(message: Apipb_ListPeerRequest()), descriptor: GoBGPService.listPeer,
      serializer: ProtobufSerializer(),
      deserializer: ProtobufDeserializer<Apipb_ListPeerResponse>(),
      options: options(timeout: .seconds(60))
    ) { response in
      var peers: [EVPNPeer] = []
      for try await message in response.messages { peers.append(EVPNPeer(message.peer)) }
      return peers
    }
    core.update { agent, now in agent.peersTold(peers, at: now) }
  }

  private func list() async throws {
    var request = Apipb_ListPathRequest()
    request.tableType = .global
    request.family = .evpn
    core.listBegan()
    try await client.serverStreaming(
      request: ClientRequest(message: request), descriptor: GoBGPService.listPath,
      serializer: ProtobufSerializer(),
      deserializer: ProtobufDeserializer<Apipb_ListPathResponse>(),
      options: options()
    ) { response in
      var batch: [ReceivedPath] = []
      for try await message in response.messages {
        // What the engine takes to be the best of several; one that marks none has one.
        let paths = message.destination.paths
        guard let path = paths.first(where: \.best) ?? paths.first else { continue }
        batch.append(ReceivedPath(path))
        guard batch.count >= 1000 else { continue }
        core.update { [batch] agent, now in agent.listed(batch, at: now) }
        batch = []
      }
      core.update { [batch] agent, now in agent.listed(batch, at: now) }
    }
    core.update { agent, now in agent.listEnded(at: now) }
  }

  /// Tells the engine of this host, on one stream: calls in a burst would end the connection.
  private func announce() async throws {
    try await client.clientStreaming(
      request: StreamingClientRequest { writer in
        for await _ in core.listen().news {
          while true {
            let announcements = core.nextAnnouncements()
            guard !announcements.isEmpty else { break }
            var request = Apipb_AddPathStreamRequest()
            request.tableType = .global
            request.paths = try announcements.map(Apipb_Path.init)
            try await writer.write(request)
          }
        }
      }, descriptor: GoBGPService.addPathStream, serializer: ProtobufSerializer(),
      deserializer: ProtobufDeserializer<Google_Protobuf_Empty>(), options: options()
    ) { _ = try $0.message }
  }
}

extension Core {
  fileprivate func wants() -> (list: Bool, peers: Bool) {
    (try? take { (agent, _) throws(ControlError) in (agent.wantsList, agent.wantsPeers) }) ?? (
      false, false
    )
  }

  fileprivate func listBegan() {
    try? take { (agent, _) throws(ControlError) in agent.listBegan() }
  }

  fileprivate func peersRequested() {
    try? take { (agent, _) throws(ControlError) in agent.peersRequested() }
  }

  fileprivate func nextAnnouncements() -> [RouteChange] {
    (try? take { (agent, _) throws(ControlError) in agent.takeAnnouncements() }) ?? []
  }
}
