import { inspect } from "node:util";
import { FrameType } from "@tensorwire/core";
import { describe, expect, test } from "vitest";
import WebSocket from "ws";
import { type Authorize, bearerTokens, dialTcp, streamModel, webSocketChannel } from "../src/index.js";
import { closers, doorkeeper, folder, listening, model, receiving, TOKEN } from "./door-fixture.js";
import { ScriptedPeer } from "./scripted-peer.js";

const places = async (): Promise<string[]> => [
  "ws://127.0.0.1:0",
  "http://127.0.0.1:0",
  "tcp://127.0.0.1:0",
  `unix:${await folder()}/s`,
];

describe("a listener that asks for a credential", () => {
  test("is shown the token over every channel, and takes the model", async () => {
    for (const url of await places()) {
      const { authorize, seen } = doorkeeper();
      const listener = await listening({ url, authorize });
      const done = receiving(listener);
      await streamModel(model, listener.url, { dial: { token: TOKEN } });
      await done;
      expect(seen, url).toHaveLength(1);
      expect(seen[0]![0], url).toBe(TOKEN);
      expect(seen[0]![1].private, url).toBe(true);
      expect(seen[0]![1].address).toMatch(url.startsWith("unix") ? /^unix$/ : /^127\.0\.0\.1:\d+$/);
    }
  });

  test("refuses whoever shows none, or a wrong one, with UNAUTHORIZED, and goes on", async () => {
    for (const url of await places()) {
      const { authorize } = doorkeeper();
      const listener = await listening({ url, authorize });
      const done = receiving(listener);
      for (const token of [undefined, "wrong", `${TOKEN}x`, "x".repeat(8192)]) {
        const sent = streamModel(model, listener.url, { dial: { token } });
        await expect(sent, `${url} ${token}`).rejects.toMatchObject({
          code: "UNAUTHORIZED",
          retryable: false,
        });
      }
      await streamModel(model, listener.url, { dial: { token: TOKEN } });
      await done;
    }
  });

  test("refuses whoever comes while authorize throws, rejects, or gives something else, and does not tell why", async () => {
    const answers: Authorize[] = [
      () => {
        throw new Error("the database has a password");
      },
      () => Promise.reject(new Error("the database has a password")),
      (() => true) as unknown as Authorize,
      (() => ({})) as unknown as Authorize,
      (() => null) as unknown as Authorize,
    ];
    for (const authorize of answers) {
      for (const url of ["tcp://127.0.0.1:0", "ws://127.0.0.1:0"]) {
        const listener = await listening({ url, authorize });
        receiving(listener);
        const error = await streamModel(model, listener.url, { dial: { token: TOKEN } }).catch(
          (error) => error,
        );
        expect(error).toMatchObject({ code: "UNAUTHORIZED" });
        expect(error.message).not.toContain("password");
      }
    }
  });

  test("waits for an answer that takes its time, and acts on nothing before it", async () => {
    let answer!: () => void;
    const answered = new Promise<void>((resolve) => (answer = resolve));
    const listener = await listening({
      url: "tcp://127.0.0.1:0",
      authorize: async () => {
        await answered;
        return { name: "somebody" };
      },
    });
    const done = receiving(listener);
    const peer = new ScriptedPeer(await dialTcp(listener.url));
    await peer.hello("send", { credential: TOKEN });
    await peer.say(FrameType.MANIFEST, JSON.stringify({ nonsense: true }));
    await new Promise((resolve) => setTimeout(resolve, 100));
    // Not even a HELLO, let alone a word about the manifest.
    expect(peer.heard).toEqual([]);
    answer();
    await expect(done).rejects.toMatchObject({ code: "MANIFEST_INVALID" });
    expect(peer.heard.map(({ type }) => type)).toEqual([FrameType.HELLO, FrameType.ERROR]);
  });

  test("asks once: a credential in HELLO does not replace the header's", async () => {
    const { authorize, seen } = doorkeeper();
    const listener = await listening({ authorize });
    const done = receiving(listener);
    const open = async (token: string) => {
      const socket = new WebSocket(listener.url, { headers: { authorization: `Bearer ${token}` } });
      socket.on("error", () => {});
      closers.push(() => socket.terminate());
      const outcome = await new Promise((resolve) => {
        socket.once("open", () => resolve("open"));
        socket.once("close", () => resolve("closed"));
      });
      return { outcome, socket };
    };
    expect((await open("wrong")).outcome).toBe("closed");
    const { outcome, socket } = await open(TOKEN);
    expect(outcome).toBe("open");
    const peer = new ScriptedPeer(webSocketChannel(socket));
    await peer.hello("receive", { credential: "wrong" });
    expect(await peer.hears(FrameType.ERROR)).toBeDefined();
    expect(seen.map(([credential]) => credential)).toEqual(["wrong", TOKEN]);
    await streamModel(model, listener.url, { dial: { token: TOKEN } });
    await done;
  });

  test("is told of no credential in errors, and tells none in its own", async () => {
    const listener = await listening({ url: "tcp://127.0.0.1:0", authorize: () => undefined });
    const done = receiving(listener);
    const secret = "sEcReT";
    const errors: unknown[] = [
      await streamModel(model, listener.url, { dial: { token: secret } }).catch((e) => e),
    ];
    for (const credential of [7 as unknown as string, { secret } as unknown as string, secret.repeat(2000)]) {
      const peer = new ScriptedPeer(await dialTcp(listener.url));
      await peer.hello("send", { credential });
      const body = await peer.hears(FrameType.ERROR);
      errors.push(Buffer.from(body!).toString());
    }
    const tokens = { a: { token: `${secret} ` }, b: { token: secret } };
    errors.push(await bearerTokens(tokens).catch((error) => error));
    errors.push(await bearerTokens({ a: { token: secret }, b: { token: secret } }).catch((error) => error));
    errors.push(
      await bearerTokens({ a: { token: { secret } as unknown as string } }).catch((error) => error),
    );
    for (const url of [
      ...["ws", "http", "tcp", "tls", "unix", "ftp"].map(
        (scheme) => `${scheme}://user:${secret}@127.0.0.1:1/?key=${secret}`,
      ),
      ...["ws", "http", "tcp"].map((scheme) => `${scheme}://user:${secret}@[/?key=${secret}`),
    ]) {
      errors.push(await streamModel(model, url).catch((error) => error));
    }
    for (const error of errors) {
      expect(error).toSatisfy((each) => typeof each === "string" || each instanceof Error);
      for (let each = error; each; each = (each as Error).cause) {
        expect(inspect(each)).not.toContain(secret);
      }
    }
    await expect(Promise.race([done, "still waiting"])).resolves.toBe("still waiting");
  });
});
