import type { IncomingMessage, ServerResponse } from "node:http";
import { TensorwireError } from "@tensorwire/core";
import { NOTHING_TOLD, type Snapshot, type Told, toldBy } from "./snapshot.js";

/** A page is told what has changed at most so often. */
export const INTERVAL_MS = 500;

/** So many pages are told at once. */
export const MAX_VIEWERS = 32;

/** A page that does not take what it is told is let go after so many times. */
const MAX_MISSED = 60;

/** A page that has lost the server looks for it again so often. */
const AGAIN_MS = 1000;

/** A host that is gone is noticed, though it never says so. */
const KEEP_ALIVE_MS = 30_000;

/** What viewers are told about. */
export interface View {
  /** Sees how things are. @returns When that was. */
  look(): number;
  /** What a page is sent that knows what it was told. */
  snapshot(at: number, told: Told): Snapshot;
}

interface Viewer {
  readonly response: ServerResponse;
  told: Told;
  missed: number;
}

/**
 * Pages that are open: each is told what has changed, by Server-Sent Events. The clock runs while there is one. What a page
 * has not taken yet is not added to: the next time it is told everything since.
 */
export class Viewers {
  readonly #viewers = new Set<Viewer>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly view: View) {}

  get size(): number {
    return this.#viewers.size;
  }

  /** @throws TensorwireError `SERVER_BUSY`. */
  add(request: IncomingMessage, response: ServerResponse): void {
    if (this.#viewers.size >= MAX_VIEWERS) {
      throw new TensorwireError("SERVER_BUSY", `${MAX_VIEWERS} pages look at this dashboard already`);
    }
    request.socket.setKeepAlive(true, KEEP_ALIVE_MS);
    response.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      // Or a proxy would wait for a buffer to fill.
      "x-accel-buffering": "no",
      connection: "close",
    });
    // Who asks for the head alone is told nothing, and would be kept among those who are.
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    response.write(`retry: ${AGAIN_MS}\n\n`);
    const viewer: Viewer = { response, told: NOTHING_TOLD, missed: 0 };
    this.#viewers.add(viewer);
    response.on("error", () => {});
    response.once("close", () => this.#left(viewer));
    this.#tell(viewer, this.view.look());
    this.#timer ??= setInterval(() => this.#tellAll(), INTERVAL_MS).unref();
  }

  /** Lets all of them go. */
  close(): void {
    for (const { response } of this.#viewers) response.end();
  }

  #tellAll(): void {
    const at = this.view.look();
    for (const viewer of this.#viewers) {
      if (!viewer.response.writableNeedDrain) this.#tell(viewer, at);
      else if (++viewer.missed > MAX_MISSED) viewer.response.destroy();
    }
  }

  #tell(viewer: Viewer, at: number): void {
    const snapshot = this.view.snapshot(at, viewer.told);
    viewer.told = toldBy(snapshot);
    viewer.missed = 0;
    viewer.response.write(`data: ${JSON.stringify(snapshot)}\n\n`);
  }

  #left(viewer: Viewer): void {
    this.#viewers.delete(viewer);
    if (this.#viewers.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
