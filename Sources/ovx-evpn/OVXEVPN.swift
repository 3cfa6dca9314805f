private import GRPCCore
private import GRPCNIOTransportHTTP2Posix
private import GoBGP
@main struct M { static func main() {} }
