import { readdir } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import WebSocket from "ws";
import { bearerTokens, receiveModel, streamModel, type TensorwireError } from "../src/index.js";
import { hasOpenssl, makeAuthority } from "./certificates.js";
import { at, fetched, folder, hasFolder, model, serving } from "./model-server-fixture.js";

hasFolder();

const TOKENS = {
  reader: { token: "read-me", fetch: ["public/*"] },
  site: { token: "site-token", publish: ["site/*"] },
};

describe("who may do what", () => {
  test("a token gives the rights of its principal, and no others", async () => {
    const server = await serving({ uploads: folder, authorize: await bearerTokens(TOKENS) });
    server.publish("public/a", model());
    server.publish("private", model());
    const { url } = server;
    expect(await fetched(`${url}public/a`, "read-me")).toEqual({ w: 1 });
    await expect(fetched(`${url}public/a`)).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await expect(fetched(`${url}public/a`, "wrong")).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    await expect(fetched(`${url}private`, "read-me")).rejects.toMatchObject({ code: "FORBIDDEN" });
    // Whether there is one is not said to whoever has no right to it.
    await expect(fetched(`${url}nothing`, "read-me")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(fetched(`${url}public/b`, "read-me")).rejects.toMatchObject({ code: "NOT_FOUND" });
    // Nor to one that does not say what it came for.
    const words = [];
    for (const name of ["private", "nothing"]) {
      const socket = new WebSocket(url + name, { headers: { authorization: "Bearer read-me" } });
      const refused = await receiveModel(socket, { to: at("x") }).done.catch(
        (error: TensorwireError) => error,
      );
      expect(refused).toMatchObject({ code: "FORBIDDEN" });
      words.push((refused as TensorwireError).message.replace(`"${name}\\"`, "…"));
    }
    expect(words[0]).toBe(words[1]);
    const send = (name: string, token: string) => streamModel(model(), url + name, { dial: { token } });
    await expect(send("site/x", "read-me")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(send("other/x", "site-token")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(send("site/x", "site-token")).resolves.toMatchObject({ confirmed: true });
    expect(await readdir(at("site"))).toEqual(["x"]);
  });
});

test.runIf(hasOpenssl)("over TLS, a certificate can say who a peer is", async () => {
  const { ca, server: identity, client } = makeAuthority();
  const server = await serving({
    url: "https://127.0.0.1:0",
    tls: { ...identity, ca },
    authorize: (_credential, { subject }) =>
      subject === "CN=client" ? { name: "client", fetch: true } : undefined,
    uploads: folder,
  });
  server.publish("m", model(8));
  expect(server.url).toMatch(/^wss:/);
  const dial = { tls: { ca, ...client } };
  for (const url of [server.urlOf("m"), server.urlOf("m").replace("wss:", "https:")]) {
    for await (const { data } of receiveModel(url, { dial })) {
      expect(new Float32Array(data.slice().buffer)[0]).toBe(8);
    }
    await expect(streamModel(model(), url, { dial })).rejects.toMatchObject({ code: "FORBIDDEN" });
    const stranger = receiveModel(url, { dial: { tls: { ca } }, to: at("never") }).done;
    await expect(stranger).rejects.toMatchObject({ code: expect.stringMatching(/^CHANNEL_/) });
  }
});
