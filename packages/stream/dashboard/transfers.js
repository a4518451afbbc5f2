import { byId, element, say } from "./elements.js";
import { counted, duration, rate, share, size } from "./figures.js";

/** @import { Listed } from "../src/dashboard/snapshot.js" */
/** @import { Sight } from "../src/dashboard/sight.js" */

/**
 * A row of the list, kept for as long as its transfer lasts: whoever reads it, or has it selected, is not disturbed.
 * @typedef {object} Row
 * @property {HTMLElement} item
 * @property {HTMLElement} name
 * @property {HTMLElement} speed
 * @property {HTMLElement} details
 * @property {HTMLElement} left
 * @property {HTMLProgressElement} bar
 * @property {HTMLElement} trouble
 */

/** @type {Map<number, Row>} */
const rows = new Map();

/** The transfers that are under way. @param {readonly Listed[]} active @param {number} more Those that are not listed. */
export function showTransfers(active, more) {
  const list = byId("transfers");
  const there = new Set(active.map(({ id }) => id));
  for (const [id, { item }] of rows) {
    if (there.has(id)) continue;
    item.remove();
    rows.delete(id);
  }
  for (const transfer of active) {
    let row = rows.get(transfer.id);
    if (!row) {
      row = newRow();
      rows.set(transfer.id, row);
      list.append(row.item);
    }
    show(row, transfer);
  }
  byId("transfers-none").hidden = active.length > 0;
  byId("transfers-more").hidden = more === 0;
  say(byId("transfers-more"), `and ${counted(more, "more transfer")}`);
}

/** All rows go: what comes is of another server. */
export function forgetTransfers() {
  for (const { item } of rows.values()) item.remove();
  rows.clear();
}

/** @returns {Row} */
function newRow() {
  const row = {
    item: element("li"),
    name: element("bdi", "name"),
    speed: element("span", "speed"),
    details: element("span", "details"),
    left: element("span", "left details"),
    bar: element("progress"),
    trouble: element("p", "trouble"),
  };
  row.item.append(row.name, row.speed, row.bar, row.details, row.left, row.trouble);
  return row;
}

/** @param {Row} row @param {Listed} transfer */
function show(row, transfer) {
  const { id, way, totalBytes, sourceBytes, wireBytes, retries, trouble } = transfer;
  row.item.className = way;
  row.item.dataset.transfer = String(id);
  const name = nameOf(transfer);
  say(row.name, name);
  const known = totalBytes > 0;
  if (known) {
    row.bar.max = totalBytes;
    row.bar.value = sourceBytes;
  } else row.bar.removeAttribute("value");
  row.bar.setAttribute(
    "aria-label",
    `${name}: ${known ? `${share(sourceBytes, totalBytes)} %` : "beginning"}`,
  );
  say(row.speed, known ? `${rate(transfer.rate)} · ${share(sourceBytes, totalBytes)} %` : "beginning");
  const parts = [...placeOf(transfer)];
  if (known) parts.push(`${size(sourceBytes)} of ${size(totalBytes)}`, `${size(wireBytes)} on the wire`);
  say(row.details, parts.join(" · "));
  const seconds = transfer.rate > 0 ? (totalBytes - sourceBytes) / transfer.rate : Number.POSITIVE_INFINITY;
  say(
    row.left,
    known
      ? sourceBytes >= totalBytes
        ? "last words"
        : Number.isFinite(seconds)
          ? `${duration(seconds)} left`
          : "nothing moves"
      : "",
  );
  row.trouble.hidden = trouble === undefined && retries === 0;
  const often = `interrupted ${counted(retries, "time")}`;
  say(row.trouble, trouble === undefined ? often : `${often}, waiting to go on: ${trouble}`);
}

/** What a transfer is of. @param {Sight} transfer */
export function nameOf({ name, way }) {
  if (name !== undefined) return name;
  return way === "within" ? "within the server" : "a transfer of the server's own";
}

/** Which way it goes, with whom, over what and as what. @param {Sight} transfer */
export function placeOf({ way, principal, peer, channel, codecs }) {
  const whom = principal !== undefined && peer !== undefined ? `${principal} (${peer})` : (principal ?? peer);
  const there = whom ?? "a peer";
  const parts = [way === "within" ? "in this process" : way === "out" ? `to ${there}` : `from ${there}`];
  if (channel !== undefined && way !== "within") parts.push(channel);
  if (codecs.length > 0) parts.push(codecs.join(" + "));
  return parts;
}
