/// Things that wait to be told, each once, in the order in which they came.
struct Pending<Element: Hashable> {
  private var members: Set<Element> = []
  private var queue: [Element] = []
  /// How many at the front of the queue have been taken out.
  private var taken = 0

  var isEmpty: Bool { members.isEmpty }

  mutating func insert(_ element: Element) {
    if members.insert(element).inserted { queue.append(element) }
  }

  mutating func formUnion(_ elements: some Sequence<Element>) {
    for element in elements { insert(element) }
  }

  mutating func formUnion(_ other: Pending) { formUnion(other.queue[other.taken...]) }

  /// The first of them, which waits no more.
  mutating func popFirst() -> Element? {
    guard taken < queue.count else { return nil }
    let element = queue[taken]
    taken += 1
    members.remove(element)
    if taken == queue.count { (queue, taken) = ([], 0) }
    return element
  }
}
