import { byId, element, say } from "./elements.js";
import { duration, rate, size, time } from "./figures.js";
import { nameOf, placeOf } from "./transfers.js";

/** @import { Ended } from "../src/dashboard/state.js" */

/** As many as the server keeps. */
const MAX_ROWS = 200;

/** Adds what has ended, the newest on top. @param {readonly Ended[]} ended The oldest first. */
export function showEnded(ended) {
  const rows = byId("history-rows");
  rows.prepend(...[...ended].reverse().map(rowOf));
  while (rows.childElementCount > MAX_ROWS) rows.lastElementChild?.remove();
  const any = rows.childElementCount > 0;
  byId("history").classList.toggle("empty", !any);
  byId("history-none").hidden = any;
  const last = ended.at(-1);
  if (last)
    say(
      byId("announcement"),
      `${nameOf(last)}: ${last.code === undefined ? "done" : `failed: ${last.code}`}`,
    );
}

/** All of it goes: what comes is of another server. */
export function forgetEnded() {
  byId("history-rows").replaceChildren();
}

/** @param {Ended} ended */
function rowOf(ended) {
  const { way, code, message, totalBytes, sourceBytes, resumedBytes, wireBytes, seconds, endedAt } = ended;
  const row = element("tr", way);
  row.dataset.sequence = String(ended.sequence);
  const model = element("td", "model");
  const name = element("bdi", "name", nameOf(ended));
  name.title = new Date(ended.startedAt).toLocaleString();
  model.append(name, element("div", "details", placeOf(ended).join(" · ")));
  const outcome = element("td", "ending");
  outcome.append(element("span", `outcome ${code === undefined ? "done" : "failed"}`, code ?? "done"));
  if (message !== undefined) {
    const words = element("bdi", "message", message);
    words.title = message;
    outcome.append(words);
  }
  const whole =
    code === undefined || totalBytes === 0
      ? size(sourceBytes)
      : `${size(sourceBytes)} of ${size(totalBytes)}`;
  row.append(
    model,
    outcome,
    element("td", "number", whole),
    element("td", "number wire", size(wireBytes)),
    element("td", "number took", duration(seconds)),
    element("td", "number", seconds > 0 ? rate((sourceBytes - resumedBytes) / seconds) : "–"),
    element("td", "number", time(endedAt)),
  );
  return row;
}
