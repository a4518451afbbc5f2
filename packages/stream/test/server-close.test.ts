import { readdir } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { fromTensors, streamModel } from "../src/index.js";
import { fetched, fetching, folder, hasFolder, model, serving, until } from "./model-server-fixture.js";

hasFolder();

describe("closing", () => {
  test("waits for transfers, and takes no more", async () => {
    const server = await serving();
    server.publish("m", model());
    const url = server.urlOf("m");
    const under = [await fetching(url), await fetching(url.replace("ws:", "http:"))];
    let closed = false;
    const closing = server.close().then(() => {
      closed = true;
    });
    await expect(fetched(url)).rejects.toMatchObject({ code: "SERVER_BUSY" });
    await expect(fetched(url.replace("ws:", "http:"))).rejects.toMatchObject({ code: "SERVER_BUSY" });
    expect(closed).toBe(false);
    for (const { release, done } of under) {
      release();
      await done;
    }
    await closing;
    await expect(fetched(url)).rejects.toMatchObject({ code: "CHANNEL_OPEN" });
  });

  test("ends transfers when its signal aborts, and the peers hear why", async () => {
    const server = await serving({ uploads: folder });
    server.publish("m", model());
    const url = server.urlOf("m");
    const under = [await fetching(url), await fetching(url.replace("ws:", "http:"))];
    const stuck = (async function* () {
      await new Promise(() => {});
      yield { name: "w", dtype: "F32" as const, shape: [1], data: new Float32Array(1) };
    })();
    const upload = streamModel(
      fromTensors([{ name: "w", dtype: "F32", shape: [1] }], stuck),
      server.urlOf("up"),
    );
    upload.catch(() => {});
    await until(() => server.transfers === 3);
    const stop = new AbortController();
    const closing = server.close();
    const forced = server.close({ signal: stop.signal });
    stop.abort(new Error("the night is over"));
    await Promise.all([closing, forced]);
    for (const done of [...under.map(({ done }) => done), upload]) {
      await expect(done).rejects.toMatchObject({
        code: "ABORTED",
        message: expect.stringContaining("the night is over"),
      });
    }
    expect(await readdir(folder)).toEqual([]);
  });
});
