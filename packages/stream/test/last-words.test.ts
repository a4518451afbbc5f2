import { describe, expect, test } from "vitest";
import { listen, receiveModel, streamModel } from "../src/index.js";

// A socket that is cut off while the peer still writes is reset, and the peer learns of the reset before it reads what
// was said last: with that, about one time in three failed.
const TIMES = 15;

const data = new Float32Array(8 << 20);
const model = { w: { dtype: "F32", shape: [data.length], data } } as const;

describe.each(["receiver", "sender"] as const)("a %s that gives up in mid-stream", (side) => {
  test("is heard by a peer that is busy writing to it", async () => {
    for (let time = 0; time < TIMES; time++) {
      const listener = await listen();
      const abort = new AbortController();
      const { signal } = abort;
      const sending = streamModel(model, listener.url, { signal: side === "sender" ? signal : undefined });
      const sent = sending.catch((error) => error);
      const receiving = receiveModel(listener, { signal: side === "receiver" ? signal : undefined });
      let chunks = 0;
      const received = await (async () => {
        for await (const _ of receiving.chunks()) if (++chunks === 3) abort.abort(new Error("enough"));
      })().catch((error) => error);
      const heard = side === "receiver" ? await sent : received;
      expect(heard).toMatchObject({ code: "ABORTED" });
      expect(heard.message).toMatch(/^the peer cancelled the transfer/);
      await sent;
      await listener.close();
    }
  });
});
