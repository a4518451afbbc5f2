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
import { mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fromTensors, safetensorsSource, streamModel } from "../src/index.js";
import { at, files, hasRoot, model, outside, root, serving } from "./names-fixture.js";

hasRoot();

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
