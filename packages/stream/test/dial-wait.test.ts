import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Listener, listen, receiveModel, streamModel } from "../src/index.js";
import { CliProcess, makeSparseModel } from "./cli-process.js";

const LONG_MS = 60_000;
const MODEL = { w: { dtype: "F32", shape: [4], data: new Float32Array([1, 2, 3, 4]) } } as const;

let folder: string;
const at = (name: string): string => join(folder, name);
const closers: (() => unknown)[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tensorwire-dial-wait-"));
});
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});
afterAll(() => rm(folder, { recursive: true }));

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const place = async (scheme: string): Promise<string> =>
  scheme === "unix" ? `unix:${at("socket")}` : `${scheme}://127.0.0.1:${await freePort()}`;

async function listening(url: string): Promise<Listener> {
  const listener = await listen({ url });
  closers.push(() => listener.close());
  return listener;
}

describe("whoever dials waits for the one who listens", () => {
  test.each(["ws", "http", "tcp", "unix"])("a sender, over %s", async (scheme) => {
    const url = await place(scheme);
    const sending = streamModel(MODEL, url, { dial: { waitMs: LONG_MS } });
    sending.catch(() => {});
    // It has been refused by then, unless this machine is very slow.
    await pause(100);
    const to = at(`${scheme}.safetensors`);
    const received = await receiveModel(await listening(url), { to }).done;
    expect((await sending).digest).toBe(received.digest);
  });

  test.each(["ws", "http"])("a receiver, over %s", async (scheme) => {
    const url = await place(scheme);
    const receiving = receiveModel(url, {
      to: at(`${scheme}-received.safetensors`),
      dial: { waitMs: LONG_MS },
    });
    receiving.done.catch(() => {});
    await pause(100);
    const sent = await streamModel(MODEL, await listening(url));
    expect((await receiving.done).digest).toBe(sent.digest);
  });

  test("the command, started first", async () => {
    await makeSparseModel(at("model.safetensors"), 2 ** 20);
    const url = await place("ws");
    const sender = new CliProcess(["send", at("model.safetensors"), url, "--wait", "60s"]);
    await pause(300);
    const receiver = new CliProcess(["receive", "--listen", url, "--out", at("copy.safetensors")]);
    const [sent, received] = await Promise.all([sender.ended, receiver.ended]);
    expect([sent.code, received.code, sent.stderr]).toEqual([
      0,
      0,
      expect.not.stringContaining("CHANNEL_OPEN"),
    ]);
    const [before, after] = await Promise.all(
      ["model.safetensors", "copy.safetensors"].map((name) => readFile(at(name))),
    );
    expect(before!.equals(after!)).toBe(true);
  });
});

describe("what the waiting does not change", () => {
  test("without it, nobody is waited for", async () => {
    const sending = streamModel(MODEL, await place("tcp"));
    await expect(sending).rejects.toMatchObject({
      code: "CHANNEL_OPEN",
      message: expect.not.stringContaining("later it was still so"),
    });
  });

  test("when the time is over, the error says what was found, and for how long", async () => {
    const sending = streamModel(MODEL, await place("ws"), { dial: { waitMs: 60 } });
    await expect(sending).rejects.toMatchObject({
      code: "CHANNEL_OPEN",
      retryable: true,
      message: expect.stringMatching(
        /^cannot reach ws:\S+: .*ECONNREFUSED.*, and 60 ms later it was still so: start the other side/,
      ),
    });
  });

  test("what another try cannot mend ends it at once", async () => {
    let requests = 0;
    const server = createHttpServer((_request, response) => {
      requests++;
      response.writeHead(404).end();
    }).listen(0, "127.0.0.1");
    closers.push(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/nothing`;
    const sending = streamModel(MODEL, url, { dial: { waitMs: LONG_MS } });
    await expect(sending).rejects.toMatchObject({ code: "CHANNEL_OPEN", retryable: false });
    expect(requests).toBe(1);
  });

  test("an abort ends the waiting", async () => {
    const cancel = new AbortController();
    const sending = streamModel(MODEL, await place("tcp"), {
      dial: { waitMs: LONG_MS },
      signal: cancel.signal,
    });
    sending.catch(() => {});
    await pause(50);
    cancel.abort();
    await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
  });

  test.each([-1, 1.5, Number.NaN, 2 ** 31])("%s is no time", async (waitMs) => {
    const sending = streamModel(MODEL, await place("tcp"), { dial: { waitMs } });
    await expect(sending).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: /dial\.waitMs/ });
  });
});
