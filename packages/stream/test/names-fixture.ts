import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach } from "vitest";
import type { TensorMap } from "../src/index.js";
import { at as outside, hasFolder } from "./model-server-fixture.js";

export { at as outside, folder, serving } from "./model-server-fixture.js";

export const model: TensorMap = { w: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } };
export let root: string;
export const at = (name: string): string => join(root, name);

/** Registers a folder of each test's own, in which a server's root is one of two. */
export function hasRoot(): void {
  hasFolder();
  beforeEach(async () => {
    root = outside("root");
    await mkdir(root);
  });
}

/** All files below a folder. */
export async function files(path: string): Promise<string[]> {
  const found = await readdir(path, { recursive: true, withFileTypes: true });
  return found
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(path.length + 1))
    .sort();
}
