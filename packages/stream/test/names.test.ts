import { renameSync, rmSync, symlinkSync, unlinkSync } from "node:fs";
import { mkdir, open, readFile, symlink, writeFile } from "node:fs/promises";
import { type ClientRequest, request } from "node:http";
import { describe, expect, test } from "vitest";
import type { ClientOptions } from "ws";
import { type ModelServer, receiveModel, type safetensorsSource, streamModel } from "../src/index.js";
import { ServedFolder } from "../src/server/served-folder.js";
import { makeModel } from "./cli-process.js";
import { at, files, folder, hasRoot, model, outside, root, serving } from "./names-fixture.js";

hasRoot();

/** What the server is asked for, as it stands: clients that are well-behaved would tidy it up. */
const RAW_PATHS = [
  "..",
  "../x",
  "../../x",
  "a/../../x",
  "a/../b",
  "./x",
  "%2e%2e/x",
  "%2E%2E%2Fx",
  "..%2fx",
  "..%5cx",
  "..\\x",
  "%252e%252e/x",
  "%c0%ae%c0%ae/x",
  "/etc/passwd",
  "%2Fetc%2Fpasswd",
  "C:%5Cx",
  "C:/x",
  "C:x",
  "x:stream",
  "%5C%5Chost%5Cshare",
  "CON",
  "nul.safetensors",
  "COM1.twire",
  "a/LPT9.x",
  "x.",
  "x%20",
  "x%20/y",
  "x%00y",
  "x%0ay",
  "x%7f",
  "x%C2%85",
  "x%E2%80%AEy",
  "",
  "a//b",
  "a/",
  "x".repeat(193),
  "y/".repeat(600),
  ".hidden",
  "a/.ssh/x",
  "x.part",
  "x.part.journal",
  "x.part.lock",
  "x.PART",
  "e%CC%81",
  "%ED%A0%80",
  "%",
  "%zz",
];

/** Asks for an upgrade with the path as it stands. */
function status(server: ModelServer, path: string, method = "GET"): Promise<number> {
  const { port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    const asked = request({ port, path: `/models/${path}`, method, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    });
    asked.on("error", reject);
    asked.end();
  });
}

describe("names that could lead anywhere else are refused", () => {
  test("in uploads, and nothing is written", async () => {
    const server = await serving({ uploads: root });
    await writeFile(outside("x"), "outside");
    for (const path of RAW_PATHS) {
      const finishRequest = (asking: ClientRequest): void => {
        asking.path = `/models/${path}`;
        asking.end();
      };
      const client = { finishRequest } as ClientOptions;
      const error = await streamModel(model, server.url, { dial: { client } }).catch((error) => error);
      expect(error, path).toMatchObject({ code: "NOT_FOUND" });
    }
    await streamModel(model, `${server.url}as-is`);
    rmSync(at("as-is"));
    expect(await files(root)).toEqual([]);
    expect(await readFile(outside("x"), "utf8")).toBe("outside");
  });

  test("in what is asked for", async () => {
    await makeModel(outside("x.safetensors"), [{ name: "w", dtype: "F32", shape: [2] }]);
    await makeModel(at("a.safetensors"), [{ name: "w", dtype: "F32", shape: [2] }]);
    const models = await ServedFolder.open(root);
    const server = await serving({ find: (name) => models.find(name) });
    for (const path of [
      ...RAW_PATHS,
      "../x.safetensors",
      "%2e%2e/x.safetensors",
      "a.safetensors/..",
      "A.safetensors",
    ]) {
      if (/[^!-~]/.test(path)) continue;
      expect([404, 400], path).toContain(await status(server, path));
      expect([404, 400], path).toContain(await status(server, path, "PUT"));
    }
    expect(await status(server, "a.safetensors")).toBe(200);
  });

  test("in what an owner's onReceive says, and in what it publishes", async () => {
    let path = "";
    const server = await serving({ uploads: root, onReceive: () => path });
    for (const name of ["../x", "/x", "a/../x", "C:x", "nul", "x.part", ".x", "a\\b", "e\u0301", ""]) {
      path = name;
      await expect(streamModel(model, server.urlOf("fine")), name).rejects.toMatchObject({
        code: "FORBIDDEN",
      });
      expect(() => server.publish(name, model)).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT" }),
      );
    }
    path = "sub/there";
    await streamModel(model, server.urlOf("fine"));
    expect(await files(root)).toEqual(["sub/there"]);
  });
});

describe("a folder that is served", () => {
  test("gives no file that a link leads to outside of it, and follows those that stay inside", async () => {
    const tensors = [{ name: "w", dtype: "F32", shape: [2] }] as const;
    await mkdir(outside("secrets"));
    await makeModel(outside("secrets/s.safetensors"), tensors);
    await mkdir(at("real"));
    await makeModel(at("real/a.safetensors"), tensors);
    await symlink(outside("secrets/s.safetensors"), at("s.safetensors"));
    await symlink(outside("secrets"), at("out"));
    await symlink(at("real"), at("in"));
    await symlink("real/a.safetensors", at("b.safetensors"));
    const index = { weight_map: { w: "s.safetensors" } };
    await writeFile(at("m.safetensors.index.json"), JSON.stringify(index));
    const models = await ServedFolder.open(root);
    const server = await serving({ find: (name) => models.find(name) });
    const fetch = async (name: string): Promise<string> => {
      const { done } = receiveModel(server.urlOf(name), { to: outside("got"), overwrite: true });
      return done.then(
        () => "given",
        ({ code, peerCode, message }) => {
          expect(message).not.toContain(folder);
          return peerCode ?? code;
        },
      );
    };
    expect(await fetch("s.safetensors")).toBe("NOT_FOUND");
    expect(await fetch("out/s.safetensors")).toBe("NOT_FOUND");
    // The index is inside, and the shard that it names is a link out of it.
    expect(await fetch("m.safetensors.index.json")).toBe("SOURCE_READ");
    expect(await fetch("real/a.safetensors")).toBe("given");
    expect(await fetch("in/a.safetensors")).toBe("given");
    expect(await fetch("b.safetensors")).toBe("given");
  });

  test("is not fooled by a link that comes between the look and the opening", async () => {
    await mkdir(outside("secrets"));
    const tensors = [{ name: "w", dtype: "F32", shape: [2] }] as const;
    await makeModel(outside("secrets/a.safetensors"), tensors);
    await mkdir(at("dir"));
    await makeModel(at("dir/a.safetensors"), tensors);
    const models = await ServedFolder.open(root);
    const found = (await models.find("dir/a.safetensors"))!;
    renameSync(at("dir"), at("moved"));
    symlinkSync(outside("secrets"), at("dir"));
    const source = (await found.open()) as ReturnType<typeof safetensorsSource>;
    await expect(source.open()).rejects.toMatchObject({ code: "SOURCE_READ", retryable: false });
    await source.close();
    unlinkSync(at("dir"));
    renameSync(at("moved"), at("dir"));
    const again = (await found.open()) as ReturnType<typeof safetensorsSource>;
    await again.open();
    await again.close();
  });

  test("gives each file under the one name that it has there", async () => {
    await makeModel(at("Model.safetensors"), [{ name: "w", dtype: "F32", shape: [2] }]);
    const models = await ServedFolder.open(root);
    expect(await models.find("Model.safetensors")).toBeDefined();
    for (const name of [
      "model.safetensors",
      "MODEL.SAFETENSORS",
      "Model.safetensors/",
      "./Model.safetensors",
    ]) {
      expect(await models.find(name)).toBe(undefined);
    }
    const file = await open(at("notes.txt"), "w");
    await file.close();
    expect(await models.find("notes.txt")).toBe(undefined);
  });
});
