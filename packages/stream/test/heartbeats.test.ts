import { join } from "node:path";
import { FrameType } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { type Channel, fromTensors, memoryChannelPair, receiveModel, streamModel } from "../src/index.js";
import { CliProcess } from "./cli-process.js";
import { built, discarding, folder, infos, listening, model, pause, small } from "./idle-timeout-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

describe("heartbeats keep a peer that is only slow", () => {
  const patience = { idleTimeoutMs: 300 };
  /** More than twice as long. */
  const TRAINING_MS = 700;

  test.each(["ws", "tcp", "http"])(
    "a caller that trains between two tensors, sending over %s",
    async (scheme) => {
      const listener = await listening({ url: `${scheme}://127.0.0.1:0` });
      const { done } = receiveModel(listener, { ...patience, to: discarding });
      const source = fromTensors(
        infos,
        (async function* () {
          for (const info of infos) {
            await pause(TRAINING_MS);
            yield { ...info, data: new Float32Array(4096) };
          }
        })(),
      );
      await expect(streamModel(source, listener.url, patience)).resolves.toMatchObject({ confirmed: true });
      await done;
    },
  );

  test("a caller that trains between two tensors, receiving", async () => {
    const listener = await listening();
    const tensor = () => ({ dtype: "F32" as const, shape: [40_000], data: new Float32Array(40_000) });
    const two = { a: tensor(), b: tensor() };
    const sending = streamModel(two, listener.url, { ...small, ...patience });
    const names: string[] = [];
    for await (const { name } of receiveModel(listener, { ...small, ...patience })) {
      names.push(name);
      await pause(TRAINING_MS);
    }
    await expect(sending).resolves.toMatchObject({ confirmed: true });
    expect(names).toEqual(["a", "b"]);
  });

  test.runIf(built)("what came while this process computed without a break is heard", async () => {
    const out = join(folder, "received.safetensors");
    const args = ["receive", "--listen", "127.0.0.1:0", "--out", out, "--idle-timeout", "20s"];
    const receiver = new CliProcess(args);
    const source = fromTensors(
      infos,
      (async function* () {
        for (const info of infos) {
          await pause(50);
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
          yield { ...info, data: new Float32Array(4096) };
        }
      })(),
    );
    const summary = await streamModel(source, await receiver.url(), { idleTimeoutMs: 200 });
    expect(summary.confirmed).toBe(true);
    expect((await receiver.ended).code).toBe(0);
  });

  test("a peer that asks for more of them than anybody needs does not get them", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const abort = new AbortController();
    const sending = streamModel(model, a, { signal: abort.signal });
    const begun = performance.now();
    await peer.hello("receive", { idleTimeoutMs: 1 });
    await pause(500);
    const most = (performance.now() - begun) / 16;
    const beats = peer.heard.filter(({ type }) => type === FrameType.PING).length;
    abort.abort();
    await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    expect(beats).toBeGreaterThan(0);
    expect(beats).toBeLessThanOrEqual(most);
  });

  test("a peer that reads nothing makes no queue of them", async () => {
    const sent: number[] = [];
    let receiver: Parameters<Channel["open"]>[0] | undefined;
    const deaf: Channel = {
      kind: "deaf",
      direction: "both",
      open: (to) => {
        receiver = to;
      },
      send: (parts) => {
        const type = parts[0]![1]!;
        sent.push(type);
        return type === FrameType.PING ? new Promise(() => {}) : Promise.resolve();
      },
      close: async () => {},
    };
    const abort = new AbortController();
    const sending = streamModel(model, deaf, { signal: abort.signal, idleTimeoutMs: 0 });
    await pause(20);
    const [far, near] = memoryChannelPair();
    near.open({ bytes: (portion) => receiver!.bytes(portion), end: () => {} });
    await new ScriptedPeer(far).hello("receive", { idleTimeoutMs: 100 });
    await pause(500);
    abort.abort();
    await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    expect(sent.filter((type) => type === FrameType.PING)).toEqual([FrameType.PING]);
  });

  test("a connection of the caller's may rest between two transfers for as long as it likes", async () => {
    const [a, b] = memoryChannelPair();
    const peer = new ScriptedPeer(b);
    const options = { ...small, idleTimeoutMs: 100 };
    const abort = new AbortController();
    const first = streamModel(model, a, { ...options, signal: abort.signal });
    await peer.hello("any");
    await peer.hears(FrameType.MANIFEST);
    abort.abort();
    await expect(first).rejects.toMatchObject({ code: "ABORTED" });
    await pause(400);
    // It would be CHANNEL_CLOSED, or the old failure, had it not outlasted that.
    const second = streamModel(model, a, options);
    second.catch(() => {});
    while (peer.heard.filter(({ type }) => type === FrameType.MANIFEST).length < 2) await pause(5);
    await expect(second).rejects.toMatchObject({ code: "IDLE_TIMEOUT" });
  });
});
