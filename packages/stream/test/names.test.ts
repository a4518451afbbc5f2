import {
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { mkdir, mkdtemp, open, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { type ClientRequest, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ClientOptions } from "ws";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  createModelServer,
  type ModelServer,
  type ModelServerOptions,
  receiveModel,
  safetensorsSource,
  streamModel,
  type TensorMap,
} from "../src/index.js";
import { ServedFolder } from "../src/server/served-folder.js";
import { makeModel } from "./cli-process.js";

const model: TensorMap = { w: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } };
let folder: string;
let root: string;
const at = (name: string): string => join(root, name);
const outside = (name: string): string => join(folder, name);
const closers: (() => unknown)[] = [];

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "tensorwire-names-")));
  root = join(folder, "root");
  await mkdir(root);
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await rm(folder, { recursive: true });
});

async function serving(options: ModelServerOptions = {}): Promise<ModelServer> {
  const server = await createModelServer(options);
  closers.push(() => server.close({ signal: AbortSignal.abort() }));
  return server;
}

/** All files below a folder. */
async function files(path: string): Promise<string[]> {
  const found = await readdir(path, { recursive: true, withFileTypes: true });
  return found
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(path.length + 1))
    .sort();
}

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

describe("an upload", () => {
  test("whose name differs only in case or normalization from one that is there is refused", async () => {
    const server = await serving({ uploads: root });
    await mkdir(at("Site"));
    await writeFile(at("Site/Model"), "");
    await writeFile(at("ﬁne"), "");
    await writeFile(at("e\u0301t\u00e9"), "");
    for (const name of ["Site/model", "site/other", "SITE", "FINE", "\u00e9t\u00e9", "Site/MODEL"]) {
      await expect(streamModel(model, server.urlOf(name)), name).rejects.toMatchObject({ code: "FORBIDDEN" });
    }
    await streamModel(model, server.urlOf("Site/other"));
    await expect(streamModel(model, server.urlOf("Site/Model"))).rejects.toMatchObject({
      peerCode: "TARGET_EXISTS",
    });
    expect((await files(root)).sort()).toEqual(["Site/Model", "Site/other", "e\u0301t\u00e9", "ﬁne"].sort());
  });

  test("whose name differs only in case from one under way is refused, and so is a second of the same name", async () => {
    const held = new Map<string, () => void>();
    const server = await serving({ uploads: root });
    const slow = (name: string): Promise<unknown> => {
      const tensors = (async function* () {
        await new Promise<void>((resolve) => held.set(name, resolve));
        yield { name: "w", dtype: "F32" as const, shape: [2], data: new Float32Array(2) };
      })();
      return streamModel(fromTensors([{ name: "w", dtype: "F32", shape: [2] }], tensors), server.urlOf(name));
    };
    const { fromTensors } = await import("../src/index.js");
    const first = slow("Dir/Model");
    while (!(await files(root)).includes("Dir/Model.part"))
      await new Promise((resolve) => setTimeout(resolve, 5));
    for (const name of ["Dir/model", "dir/Model", "dir/x"]) {
      await expect(streamModel(model, server.urlOf(name)), name).rejects.toMatchObject({ code: "FORBIDDEN" });
    }
    await expect(streamModel(model, server.urlOf("Dir/Model"))).rejects.toMatchObject({
      peerCode: "TARGET_BUSY",
    });
    await streamModel(model, server.urlOf("Dir/Other"));
    held.get("Dir/Model")!();
    await first;
    expect(await files(root)).toEqual(["Dir/Model", "Dir/Other"]);
    await streamModel(model, server.urlOf("Dir/Model2"));
  });

  test("goes through no link, to a folder or a file, inside or outside", async () => {
    const server = await serving({ uploads: root, receive: { overwrite: true } });
    await mkdir(outside("elsewhere"));
    await mkdir(at("real"));
    await symlink(outside("elsewhere"), at("out"));
    await symlink(at("real"), at("in"));
    await symlink(outside("elsewhere/target"), at("file"));
    for (const name of ["out/x", "in/x", "out", "file/x"]) {
      const refused = await streamModel(model, server.urlOf(name)).catch((error) => error);
      expect(refused.peerCode ?? refused.code, name).toMatch(/FORBIDDEN|TARGET_WRITE/);
    }
    // The link itself is replaced, not followed.
    await streamModel(model, server.urlOf("file"));
    expect(lstatSync(at("file")).isFile()).toBe(true);
    expect(await files(outside("elsewhere"))).toEqual([]);
    expect(await files(at("real"))).toEqual([]);
  });

  test("does not follow a link that takes its folder's place while it is under way", async () => {
    const elsewhere = outside("elsewhere");
    mkdirSync(elsewhere);
    const server = await serving({ uploads: root });
    const { fromTensors } = await import("../src/index.js");
    const tensors = (async function* () {
      while (!(await files(root)).includes("dir/x.part"))
        await new Promise((resolve) => setTimeout(resolve, 5));
      renameSync(at("dir"), at("moved"));
      symlinkSync(elsewhere, at("dir"));
      // So that giving it its name would work there.
      writeFileSync(join(elsewhere, "x.part"), "bait");
      yield { name: "w", dtype: "F32" as const, shape: [2], data: new Float32Array(2) };
    })();
    const sent = streamModel(
      fromTensors([{ name: "w", dtype: "F32", shape: [2] }], tensors),
      server.urlOf("dir/x"),
    );
    await expect(sent).rejects.toMatchObject({ code: "FORBIDDEN" });
    expect(readdirSync(elsewhere)).not.toContain("x");
    unlinkSync(at("dir"));
    rmSync(at("moved"), { recursive: true });
  });

  test("that fails takes back the folders that were made for it, and no others", async () => {
    const server = await serving({ uploads: root });
    await mkdir(at("kept"));
    const broken = {
      ...safetensorsSource("none"),
      name: "broken",
      open: async () => ({
        kind: "model" as const,
        tensors: [{ name: "w", dtype: "F32" as const, shape: [2] }],
        metadata: new Map(),
      }),
      read: () => Promise.reject(new Error("broken")),
      close: async () => {},
    };
    for (const name of ["new/deep/x", "kept/x", "kept/new/x"]) {
      await expect(streamModel(broken, server.urlOf(name))).rejects.toBeDefined();
    }
    while (server.transfers > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await readdir(root, { recursive: true })).toEqual(["kept"]);
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
