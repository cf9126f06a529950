// The explorer of nbs/tutorials/explore.ipynb without a kernel: everything is looked up in EXPLORER, which tools/docs.py
// writes from the table of trainings. `dans.choose.explore` says what its fields are; tests compare the two.
{
  const root = document.getElementById("explorer"), form = root.querySelector("form")
  const said = root.querySelector(".said"), found = root.querySelector(".found")
  const axes = {arena_bytes: "RAM", flash_bytes: "flash", macs: "MACs", cycles: "time"}

  const shown = (n, units) => {
    const [unit, size] = units.findLast(([, size]) => n >= size) || units[0]
    return `${Number((n / size).toPrecision(4))} ${unit}`.trim()
  }
  const bytes = n => shown(n, [["B", 1], ["KiB", 1024], ["MiB", 1024 ** 2]])
  const macs = n => shown(n, [["", 1], ["k", 1e3], ["M", 1e6]])
  const show = {arena_bytes: bytes, flash_bytes: bytes, macs}
  const percent = score => `${(100 * score).toFixed(1)} %`
  const points = gain => `${gain < 0 ? "" : "+"}${(100 * gain).toFixed(1)} points`
  const node = (name, attributes = {}, ...inside) => {
    const svg = ["svg", "rect", "path", "circle", "text", "g"].includes(name)
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name)
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value))
    made.append(...inside)
    return made
  }

  // Limits, and what is within them

  const cost = (system, axis, limits) => {
    const [flash, work, elements] = system.cost.slice(EXPLORER.libraries)
    if (axis === "cycles") return Math.ceil(limits.per[0] * work + limits.per[1] * elements)
    return {arena_bytes: system.cost[limits.library], flash_bytes: flash, macs: work}[axis]
  }
  const within = (system, limits, but = []) =>
    Object.keys(axes).every(axis => !limits[axis] || but.includes(axis) || cost(system, axis, limits) <= limits[axis])
  const known = table => table.systems.slice(0, table.known)  // the best first
  const best = (table, limits) => known(table).find(system => within(system, limits))

  const ofBoard = (board, time) => (board ? board.limits[time] : {library: 0})
  const tightened = (limits, bounds) => {
    const both = {...limits}
    for (const [axis, bound] of Object.entries(bounds)) if (bound) both[axis] = Math.min(bound, limits[axis] || Infinity)
    return both
  }
  const doubled = (limits, raised) => {
    const wider = {...limits}
    for (const axis of raised) if (wider[axis]) wider[axis] *= 2
    return wider
  }

  // What is shown

  const line = (x, y, points) => "M" + points.map(p => `${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("L")
  const text = (x, y, words, more = {}) => node("text", {x, y, ...more}, words)
  const figure = (title, picture) => node("figure", {}, picture, node("figcaption", {}, title))

  const camera = system => {
    const view = {src: EXPLORER.views[system.data], alt: `A drawn scene at ${system.data}`, width: 200, height: 200}
    return figure(`A drawn scene as the network gets it, at ${system.data}.`, node("img", view))
  }

  const memory = (table, limits, system) => {
    const rows = table.layouts[system.name], top = Math.max(...rows.map(r => r[2] + r[3])), end = Math.max(...rows.map(r => r[1])) + 1
    const x = step => 44 + (286 * step) / end, y = at => 180 - (160 * at) / top
    const words = `Tensors of ${system.name} in RAM, operator by operator; ${bytes(top)} at the most`
    const svg = node("svg", {viewBox: "0 0 340 220", role: "img", "aria-label": words})
    for (const [first, last, offset, size] of rows)
      svg.append(node("rect", {x: x(first), width: x(last + 1) - x(first), y: y(offset + size), height: y(offset) - y(offset + size)}))
    svg.append(text(44, 14, `${bytes(top)} at the most`), text(40, 184, "0", {"text-anchor": "end"}))
    svg.append(node("path", {d: "M44 20V180H330"}), text(187, 205, "operator, from the image on", {"text-anchor": "middle"}))
    return figure(`Who lives when in RAM: each block is a tensor. Firmware reserves ${bytes(cost(system, "arena_bytes", limits))} with the records of the runtime.`, svg)
  }

  const place = (table, limits, system) => {
    const all = known(table).map(s => [cost(s, "macs", limits), s.score, s])
    const span = values => [Math.min(...values), Math.max(...values)]
    const [left, right] = span(all.map(s => Math.log(s[0]))), [low, high] = span(all.map(s => s[1]))
    const x = work => 50 + (280 * (Math.log(work) - left)) / (right - left || 1), y = score => 180 - (160 * (score - low)) / (high - low || 1)
    const front = []
    for (const s of all.toSorted((a, b) => a[0] - b[0] || b[1] - a[1]))
      if (within(s[2], limits, ["macs", "cycles"]) && (!front.length || s[1] > front.at(-1)[1])) front.push(s)
    const steps = front.flatMap((s, i) => (i ? [[s[0], front[i - 1][1]], s] : [s]))
    const words = `Validation accuracy against MACs of ${all.length} known systems; ${system.name} has ${percent(system.score)} at ${macs(cost(system, "macs", limits))}`
    const svg = node("svg", {viewBox: "0 0 340 220", role: "img", "aria-label": words})
    svg.append(...all.map(s => node("circle", {cx: x(s[0]), cy: y(s[1]), r: 2})))
    svg.append(node("path", {d: line(x, y, steps), class: "front"}))
    svg.append(node("circle", {cx: x(cost(system, "macs", limits)), cy: y(system.score), r: 6, class: "answer"}))
    svg.append(node("path", {d: "M50 20V180H330"}), text(46, 24, percent(high), {"text-anchor": "end"}), text(46, 184, percent(low), {"text-anchor": "end"}))
    svg.append(text(50, 196, macs(Math.exp(left))), text(330, 196, macs(Math.exp(right)), {"text-anchor": "end"}))
    svg.append(text(190, 212, "MACs for an image", {"text-anchor": "middle"}))
    return figure("Its place (ring) among all that are known. Dashed: within this memory, better than all with fewer MACs.", svg)
  }

  const rows = (caption, head, body) => {
    const cells = (name, values, more = {}) => node("tr", {}, ...values.map(value => node(name, more, value)))
    return node("div", {class: "rows"}, node("table", {}, node("caption", {}, caption),
      node("thead", {}, cells("th", head, {scope: "col"})), node("tbody", {}, ...body.map(row => cells("td", row)))))
  }

  const wider = (table, limits, here) => {
    const names = Object.keys(axes).filter(axis => limits[axis] && !(axis === "macs" && limits.cycles))
    const sets = names.map(axis => [axes[axis], axis === "cycles" ? ["cycles", "macs"] : [axis]])
    if (sets.length > 1) sets.push(["all of them", Object.keys(axes)])
    return sets.map(([name, raised]) => [name, best(table, doubled(limits, raised)), here])
      .map(([name, other]) => [name, other ? other.name : "none is known", other && here ? points(other.score - here.score) : ""])
  }

  const nextBetter = (table, board, time) => {
    const score = other => best(table, other.limits[time])?.score ?? -Infinity
    const next = EXPLORER.boards.find(other => other.limits[time] && score(other) > score(board))
    if (!next) return "No board does better."
    const better = best(table, next.limits[time]), gain = better.score - score(board)
    return `The smallest board that does better is ${next.board}: ${Number.isFinite(gain) ? points(gain) + ", " : ""}${better.name}.`
  }

  // The state is the form's; the address of the page keeps it

  const tell = () => {
    const field = name => form.elements[name].value
    const table = EXPLORER.tables.find(one => one.data === field("table")), time = field("time")
    const board = EXPLORER.boards.find(one => one.name === field("board"))
    const bounds = {}
    for (const axis of Object.keys(EXPLORER.steps)) {
      bounds[axis] = EXPLORER.steps[axis][field(axis)]
      const words = bounds[axis] ? show[axis](bounds[axis]) : "any"
      form.elements[axis].setAttribute("aria-valuetext", words)
      form.elements[axis].parentNode.querySelector("output").textContent = words
    }
    form.elements.time.disabled = !board
    found.replaceChildren()
    const limits = ofBoard(board, board ? time : "")
    if (!limits) {
      said.textContent = `No latency was published for ${board.board}: take any time, and measure on the board.`
      return
    }
    const all = tightened(limits, bounds), inside = known(table).filter(system => within(system, all)), system = inside[0]
    const possible = table.systems.filter(system => within(system, all)).length
    const parts = Object.keys(show).filter(axis => all[axis]).map(axis => `${axes[axis]} ${show[axis](all[axis])}`)
    if (all.cycles) parts.push(`${time} ms for an image`)
    const where = parts.length ? `Within ${parts.join(", ")}` : "Without limits"
    if (!system) {
      said.textContent = `${where}: no system is known, of ${possible} of the table; raise a limit.`
      return
    }
    const each = system.trainings > 1 ? `the mean of ${system.trainings} trainings` : "one training"
    said.textContent = `${where}: the best of ${inside.length} known systems, of ${possible} of the table: ${system.name}, ${percent(system.score)} of validation images right (${each}).`
    const head = ["system", "accuracy", "trainings", "RAM", "flash", "MACs"]
    const body = inside.slice(0, 5).map(s => [s.name, percent(s.score), String(s.trainings),
      ...Object.keys(show).map(axis => show[axis](cost(s, axis, all)))])
    const more = wider(table, all, system), beside = node("div")
    if (more.length) beside.append(rows("What twice as much would buy", ["of", "the best then", "gain"], more))
    if (board) beside.append(node("p", {}, nextBetter(table, board, time)))
    const figures = [camera(system), memory(table, all, system), place(table, all, system), beside]
    found.append(node("div", {class: "figures"}, ...figures), rows("The best systems known", head, body))
    const noise = table.noise ? `Two trainings of the same system come out apart by a standard deviation of ${(100 * table.noise).toFixed(1)} points each: smaller leads are none. ` : ""
    found.append(node("p", {}, `${noise}The table of ${table.data} has ${table.trained} of ${table.planned} trainings.`))
  }

  const changed = () => {
    const fields = [...form.elements].filter(e => e.name && e.value !== e.dataset.first).map(e => [e.name, e.value])
    history.replaceState(null, "", fields.length ? "#" + new URLSearchParams(fields) : location.pathname + location.search)
    tell()
  }

  const begin = () => {
    const options = (name, values) => form.elements[name].append(...values.map(([value, words]) => node("option", {value}, words)))
    options("table", EXPLORER.tables.map(table => [table.data, table.data]))
    options("board", EXPLORER.boards.map(board => [board.name, board.board]))
    options("time", EXPLORER.times.map(ms => [ms, `${ms} ms`]))
    for (const [axis, steps] of Object.entries(EXPLORER.steps)) Object.assign(form.elements[axis], {max: steps.length, value: steps.length})
    for (const element of form.elements) element.dataset.first = element.value
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (form.elements[name]) form.elements[name].value = value
    form.addEventListener("input", changed)
    form.addEventListener("submit", event => event.preventDefault())
    form.hidden = false
    tell()
  }

  if (EXPLORER.tables.length) begin()
  else said.textContent = "No table has a training yet: they come with newer versions."
}
