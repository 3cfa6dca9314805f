private import GRPCCore
@main struct M { static func main() {} }
