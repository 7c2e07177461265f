// Tries what a person does with a report's page, and writes what it saw as the title.
const seen = [], say = (name, value) => seen.push(name + "=" + value);
addEventListener("error", event => say("error", event.message));
const key = (on, key) => on.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
addEventListener("load", () => {
  const chart = document.querySelector("svg.chart"), tip = document.querySelector("#tip");
  key(chart, "ArrowRight"); say("tip", /anneal.steps=10.*\n.* ± .*\nmean of/.test(tip.textContent) && !tip.hidden);
  const [point, before] = [chart.querySelector(".pt"), chart.querySelector(".pt").getAttribute("transform")];
  key(chart, "+"); say("zoomed", point.getAttribute("transform") !== before && chart.querySelectorAll(".tx").length > 0);
  key(chart, "0"); say("back", point.getAttribute("transform").match(/[\d.]+/g).join() === before.match(/[\d.]+/g).join());
  const entry = chart.querySelector(".key"); key(entry, "Enter");
  say("hidden", getComputedStyle(chart.querySelector(`.series[data-s="${entry.dataset.s}"]`)).display);
  const focus = [...document.querySelectorAll("a[href], button, summary, input, [tabindex='0']")];
  const reading = focus.every((e, i) => !i || focus[i - 1].compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING);
  say("order", reading && focus[0].closest("pre.command") !== null);
  say("labelled", [...document.querySelectorAll("svg.chart")].every(svg => svg.getAttribute("aria-label").length > 20));
  document.querySelectorAll("details.rows").forEach(details => details.open = true);
  setTimeout(() => {
    const table = document.querySelector("#table-effects"), heads = [...table.tHead.rows[0].cells];
    const at = heads.findIndex(head => head.textContent === "share_percent");
    const values = () => [...table.tBodies[0].rows].map(row => parseFloat(row.cells[at].textContent));
    const sorted = numbers => numbers.length > 9 && numbers.every((v, i) => !i || numbers[i - 1] <= v);
    heads[at].firstChild.click(); say("up", sorted(values())); heads[at].firstChild.click(); say("down", sorted(values().reverse()));
    const runs = document.querySelector("#table-runs");
    say("links", runs.querySelectorAll("td a").length >= 36 && runs.querySelectorAll("td button").length === 36);
    say("wide", document.documentElement.scrollWidth > innerWidth);
    document.title = seen.join(" ");
  }, 100);
});