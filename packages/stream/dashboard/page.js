import { addRates, drawChart, forgetRates } from "./chart.js";
import { byId, element, say } from "./elements.js";
import { counted, rate, share, size } from "./figures.js";
import { forgetEnded, showEnded } from "./history.js";
import { forgetTransfers, showTransfers } from "./transfers.js";

/** @import { MemoryFigures, Snapshot } from "../src/dashboard/snapshot.js" */

/** How long to wait before the server is asked again, where the browser does not do that by itself. */
const AGAIN_MS = 2000;

const BUDGETS = {
  send: "Budget for sending",
  receive: "Budget for receiving",
  both: "Budget of all transfers",
};

/** @type {EventSource | undefined} */
let events;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let again;
/** When the last snapshot was made, on the server's clock. */
let at = 0;

function open() {
  close();
  const source = new EventSource("events");
  events = source;
  source.onmessage = ({ data }) => {
    connection("open", "Live");
    show(JSON.parse(data));
  };
  source.onerror = () => {
    connection("lost", "Connection lost, trying again…");
    // After an answer that is no stream the browser gives up.
    if (source.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN_MS);
  };
}

function close() {
  clearTimeout(again);
  events?.close();
  events = undefined;
}

/** @param {"open" | "lost" | "opening"} state @param {string} text */
function connection(state, text) {
  byId("connection").dataset.state = state;
  say(byId("connection"), text);
  document.body.classList.toggle("stale", state === "lost");
}

/** @param {Snapshot} snapshot */
function show(snapshot) {
  if (snapshot.first) {
    forgetTransfers();
    forgetEnded();
    forgetRates();
  }
  at = snapshot.at;
  const { active, more, ended, rates, memory } = snapshot;
  addRates(rates);
  const underWay = active.length + more;
  const last = rates.at(-1);
  if (last) {
    say(byId("rate-out"), rate(last.out));
    say(byId("rate-in"), rate(last.in));
  }
  say(byId("count-active"), underWay.toLocaleString("en"));
  for (const count of /** @type {const} */ (["done", "failed", "refused"])) {
    say(byId(`count-${count}`), snapshot[count].toLocaleString("en"));
  }
  byId("count-failed").classList.toggle("bad", snapshot.failed > 0);
  document.title = underWay > 0 ? `${counted(underWay, "transfer")} · Tensorwire` : "Tensorwire";
  showTransfers(active, more);
  showEnded(ended);
  showMemory(memory);
  drawChart(at);
}

/** @param {MemoryFigures} memory */
function showMemory({ rss, peakRss, window, budgets }) {
  say(byId("memory-rss"), size(rss));
  say(byId("memory-peak"), size(peakRss));
  say(byId("memory-window"), size(window));
  const list = byId("budgets");
  while (list.childElementCount > budgets.length) list.lastElementChild?.remove();
  for (const [i, { of, reserved, bytes, waiting }] of budgets.entries()) {
    const item = list.children[i] ?? list.appendChild(newBudget());
    const [label, value, bar, note] = item.children;
    if (!label || !value || !(bar instanceof HTMLProgressElement) || !(note instanceof HTMLElement)) return;
    say(label, BUDGETS[of]);
    say(value, `${size(reserved)} of ${size(bytes)}`);
    item.className = of === "receive" ? "in" : "out";
    bar.max = bytes;
    bar.value = reserved;
    bar.setAttribute("aria-label", `${BUDGETS[of]}: ${share(reserved, bytes)} % held`);
    note.hidden = waiting === 0;
    say(note, `${counted(waiting, "transfer")} ${waiting === 1 ? "waits" : "wait"} for memory`);
  }
}

function newBudget() {
  const item = element("li");
  item.append(element("span", "label"), element("span"), element("progress"), element("p", "note"));
  return item;
}

// Nobody looks at a page that is not to be seen: the server need not tell it anything.
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
addEventListener("resize", () => drawChart(at));
if (!document.hidden) open();
