// swift-tools-version: 6.2
import PackageDescription

/// The rules every Swift target is held to: no warning is tolerated, and each unsafe use is marked
/// where it stands.
let strict: [SwiftSetting] = [
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// Wire views are `~Escapable`; without this they cannot be initialised in Swift 6.3.
///
/// The standard library and swift-nio rely on the same switch, and the language group has promised
/// to keep code that uses it compiling.
let lifetimes: [SwiftSetting] = [.enableExperimentalFeature("Lifetimes")]

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")

let package = Package(
  name: "ovx",
  products: [
    .executable(name: "ovx-vswitchd", targets: ["ovx-vswitchd"]),
    .executable(name: "ovx-broker", targets: ["ovx-broker"]),
    .executable(name: "ovx-ctl", targets: ["ovx-ctl"]),
    .executable(name: "ovx-docker", targets: ["ovx-docker"]),
    .executable(name: "ovx-gatewayd", targets: ["ovx-gatewayd"]),
    .executable(name: "ovx-cni", targets: ["ovx-cni"]),
    .executable(name: "ovx-exporter", targets: ["ovx-exporter"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/swhitty/FlyingFox", from: "0.27.1"),
  ],
  targets: [
    .target(
      name: "CLinux",
      // For the kernel: deploy/build-fastpath makes a header of it.
      exclude: ["bpf"],
      linkerSettings: [
        .linkedLibrary("uring"), .linkedLibrary("mnl"),
      ]),
    // Loads libpcap by itself where frames are captured.
    .target(name: "CCapture"),
    .target(name: "CConfinement", linkerSettings: [.linkedLibrary("seccomp")]),
    .target(name: "CChecksum"),
    .target(
      name: "OVXDatapath",
      dependencies: ["CChecksum"],
      swiftSettings: strict + lifetimes),
    .target(
      name: "OVXLinux",
      dependencies: ["OVXDatapath", "CCapture", "CLinux", system],
      swiftSettings: strict + lifetimes),
    .target(
      name: "OVXControl",
      dependencies: ["OVXDatapath", system],
      swiftSettings: strict),
    .target(
      name: "OVXStorage",
      dependencies: [
        "OVXControl", "OVXDatapath", system, .product(name: "GRDB", package: "GRDB.swift"),
      ],
      swiftSettings: strict),
    .target(name: "OVXEVPN", dependencies: ["OVXControl", "OVXDatapath"], swiftSettings: strict),
    .target(name: "OVXSimulation", dependencies: ["OVXDatapath"], swiftSettings: strict),
    .target(
      name: "OVXHost",
      dependencies: ["OVXControl", "OVXDatapath", "OVXLinux", logging, system],
      swiftSettings: strict),
    .executableTarget(
      name: "ovx-vswitchd",
      dependencies: [
        "CConfinement", "CLinux", "OVXControl", "OVXDatapath", "OVXHost", "OVXLinux",
        "OVXStorage", argumentParser, logging, system,
      ],
      swiftSettings: strict),
    .executableTarget(name: "ovx-broker", dependencies: ["CLinux"]),
    .executableTarget(
      name: "ovx-ctl",
      dependencies: ["CCapture", "OVXControl", "OVXLinux", argumentParser, system, yams],
      swiftSettings: strict),
    .executableTarget(
      name: "ovx-docker",
      dependencies: [
        "OVXControl", "OVXDatapath", "OVXLinux", argumentParser,
        .product(name: "FlyingFox", package: "FlyingFox"),
        .product(name: "FlyingSocks", package: "FlyingFox"),
      ],
      swiftSettings: strict,
      // FlyingFox passes requests on by FoundationNetworking, which stands on it when it is linked
      // statically.
      linkerSettings: [.linkedLibrary("curl")]),
    .executableTarget(
      name: "ovx-exporter",
      dependencies: [
        "OVXControl", "OVXDatapath", argumentParser,
        .product(name: "FlyingFox", package: "FlyingFox"),
        .product(name: "FlyingSocks", package: "FlyingFox"),
      ],
      resources: [.embedInCode("page.html")],
      swiftSettings: strict,
      linkerSettings: [.linkedLibrary("curl")]),
    .executableTarget(
      name: "ovx-gatewayd",
      dependencies: ["OVXControl", "OVXDatapath", "OVXLinux", argumentParser, system],
      swiftSettings: strict),
    .executableTarget(
      name: "ovx-cni",
      dependencies: ["CLinux", "OVXControl", "OVXDatapath", "OVXLinux", system],
      swiftSettings: strict),
    .executableTarget(
      name: "ovx-benchmark",
      dependencies: ["CChecksum", "OVXDatapath", "CLinux"],
      path: "Benchmarks/Pipeline",
      swiftSettings: strict),
    .testTarget(
      name: "OVXDatapathTests",
      dependencies: ["CChecksum", "OVXDatapath", "OVXSimulation"],
      swiftSettings: strict + lifetimes),
    .testTarget(
      name: "OVXSimulationTests", dependencies: ["OVXDatapath", "OVXSimulation"],
      swiftSettings: strict),
    .testTarget(
      name: "OVXLinuxTests", dependencies: ["OVXLinux", "OVXSimulation"], swiftSettings: strict),
    .testTarget(
      name: "OVXHostTests",
      dependencies: [
        "OVXControl", "OVXDatapath", "OVXHost", "OVXLinux", "OVXSimulation", logging, system,
      ],
      swiftSettings: strict),
    .testTarget(
      name: "VswitchdTests",
      dependencies: ["ovx-vswitchd", "OVXControl", "OVXSimulation", "OVXStorage"],
      swiftSettings: strict),
    .testTarget(
      name: "GatewaydTests",
      dependencies: ["ovx-gatewayd", "OVXControl", "OVXDatapath", "OVXLinux"],
      swiftSettings: strict),
    .testTarget(
      name: "OVXControlTests",
      dependencies: [
        "OVXControl", "OVXDatapath", "OVXSimulation", "OVXStorage", "ovx-ctl", system,
        .product(name: "GRDB", package: "GRDB.swift"),
      ],
      swiftSettings: strict),
    .testTarget(
      name: "CNITests",
      dependencies: ["ovx-cni", "OVXControl", "OVXDatapath", "OVXSimulation"],
      swiftSettings: strict),
    .testTarget(
      name: "ExporterTests",
      dependencies: ["ovx-exporter", "OVXControl", "OVXDatapath", "OVXSimulation"],
      swiftSettings: strict),
    .testTarget(
      name: "OVXEVPNTests",
      dependencies: ["OVXEVPN", "OVXControl", "OVXDatapath", "OVXSimulation"],
      swiftSettings: strict),
    .testTarget(
      name: "SystemTests", dependencies: ["OVXControl", "OVXDatapath", "OVXSimulation"],
      exclude: ["Traffic"],
      swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)

// What speaks gRPC takes minutes to build, so that only deploy/build-evpn, which sets this, fetches
// and builds it.
if Context.environment["OVX_EVPN"] != nil {
  package.products.append(.executable(name: "ovx-evpn", targets: ["ovx-evpn"]))
  package.dependencies += [
    .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.3"),
    .package(url: "https://github.com/grpc/grpc-swift-nio-transport", from: "2.9.2"),
    .package(url: "https://github.com/grpc/grpc-swift-protobuf", from: "2.4.1"),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
  ]
  package.targets.append(
    .executableTarget(
      name: "ovx-evpn",
      dependencies: [
        "GoBGP", "OVXControl", "OVXDatapath", "OVXEVPN", argumentParser, system,
        .product(name: "GRPCCore", package: "grpc-swift-2"),
        .product(name: "GRPCNIOTransportHTTP2Posix", package: "grpc-swift-nio-transport"),
        .product(name: "GRPCProtobuf", package: "grpc-swift-protobuf"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
      ],
      swiftSettings: strict))
  package.targets.append(
    // Generated code, which is not held to the rules of what is written.
    .target(
      name: "GoBGP",
      dependencies: [
        .product(name: "GRPCCore", package: "grpc-swift-2"),
        .product(name: "GRPCProtobuf", package: "grpc-swift-protobuf"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
      ],
      exclude: ["gobgp.proto"]))
}
