import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { FrameType } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import { fromTensors, listen, memoryChannelPair, receiveModel, streamModel } from "../src/index.js";
import { COMMAND } from "./cli-process.js";
import { built, closers, discarding, folder, infos, model, pause } from "./idle-timeout-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

describe("who has no idle timeout", () => {
  test("a channel without a way back", async () => {
    const pipe = new PassThrough();
    const source = fromTensors(
      infos,
      (async function* () {
        for (const info of infos) {
          await pause(400);
          yield { ...info, data: new Float32Array(4096) };
        }
      })(),
    );
    const { done } = receiveModel({ readable: pipe }, { idleTimeoutMs: 100, to: discarding });
    await streamModel(source, { writable: pipe }, { idleTimeoutMs: 100 });
    await expect(done).resolves.toMatchObject({ tensors: 2 });
  });

  test("an artifact, whose bytes say nothing of it", async () => {
    const path = join(folder, "model.twire");
    await streamModel(model, path, { idleTimeoutMs: 100 });
    expect((await readFile(path)).includes("idleTimeoutMs")).toBe(false);
  });

  test("one who turns it off, whose HELLO says nothing of it", async () => {
    const heard: Record<string, unknown>[] = [];
    for (const idleTimeoutMs of [0, 5000, undefined]) {
      const [a, b] = memoryChannelPair();
      const peer = new ScriptedPeer(b);
      const abort = new AbortController();
      const sending = streamModel(model, a, { signal: abort.signal, idleTimeoutMs });
      heard.push(JSON.parse(Buffer.from((await peer.hears(FrameType.HELLO))!).toString()));
      abort.abort();
      await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    }
    expect(heard.map(({ idleTimeoutMs }) => idleTimeoutMs)).toEqual([undefined, 5000, 120_000]);
  });

  test.each([-1, 1, 99, 1.5, Number.NaN, 2 ** 31, "5" as never])("a time of %s is refused", async (time) => {
    const [a] = memoryChannelPair();
    for (const option of ["idleTimeoutMs", "stallTimeoutMs"]) {
      await expect(streamModel(model, a, { [option]: time })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining(option),
      });
    }
    await expect(listen({ idleTimeoutMs: time })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});

test.runIf(built)("no timer keeps a process alive", async () => {
  const code = `
    import { memoryChannelPair, streamModel } from "@tensorwire/stream";
    const [a, b] = memoryChannelPair();
    b.open({ bytes: () => {}, end: () => {} });
    const model = { w: { dtype: "F32", shape: [1], data: new Float32Array(1) } };
    streamModel(model, a, { stallTimeoutMs: 600000 }).finally(() => console.log("it ended"));
    setTimeout(() => console.log("nothing else to do"), 200);
  `;
  const cwd = fileURLToPath(new URL("../../../", import.meta.url));
  const args = ["--input-type=module", "--eval", code];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd });
  expect(stdout).toBe("nothing else to do\n");
});

test.runIf(built)("the command takes times as people write them", async () => {
  const run = promisify(execFile);
  const sending = run(process.execPath, [COMMAND, "send", "x", "ws://127.0.0.1:1", "--idle-timeout", "soon"]);
  await expect(sending).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--idle-timeout takes a time such as 500ms/),
  });
  const server = createServer(() => {}).listen(0, "127.0.0.1");
  closers.push(() => server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  const url = `tcp://127.0.0.1:${(server.address() as { port: number }).port}`;
  const to = join(folder, "never.safetensors");
  const args = [COMMAND, "receive", url, "--out", to, "--idle-timeout", "300ms", "--stall-timeout", "10m"];
  await expect(run(process.execPath, args)).rejects.toMatchObject({
    code: 5,
    stderr: expect.stringMatching(/^tensorwire: IDLE_TIMEOUT: /m),
  });
});
