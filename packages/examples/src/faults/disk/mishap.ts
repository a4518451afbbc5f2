import { execFileSync } from "node:child_process";
import { appendFile, mkdir, open, rename, rm, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ErrorCode } from "@tensorwire/stream";
import { writeModel } from "../models.js";
import { LARGE, PART_SUFFIX } from "./place.js";

/** Where a case happens. */
export interface Place {
  /** A disk of its own, or a folder where nothing can be mounted. */
  readonly disk: string;
  readonly source: string;
  readonly target: string;
}

/** Something that happens to a disk, or to a file on it, and how it is put right. */
export interface Mishap {
  readonly name: string;
  /** Which end it happens to, and so has the code. */
  readonly victim: "sender" | "receiver";
  readonly codes: readonly ErrorCode[];
  readonly needsMount?: boolean;
  /** Before the transfer begins. */
  before?(place: Place): void | Promise<void>;
  /** In its midst. */
  during?(place: Place): void | Promise<void>;
  /** What an administrator would do: the next attempt is to succeed. */
  mend?(place: Place): void | Promise<void>;
  /** What stands under the final name is somebody else's, and is to stay. */
  readonly leaves?: string;
}

const MiB = 2 ** 20;
export const DISK_BYTES = 24 * MiB;

const mount = (disk: string, options: string): void => {
  execFileSync("mount", ["-o", `remount,${options}`, disk], { stdio: "pipe" });
};
const filler = ({ disk }: Place): string => join(disk, "filler");

/** Takes all that is left of a disk. */
async function fill(place: Place): Promise<void> {
  for (const piece of [MiB, 64 * 1024, 4096]) {
    const bytes = new Uint8Array(piece);
    try {
      for (;;) await appendFile(filler(place), bytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    }
  }
}

export const MISHAPS: readonly Mishap[] = [
  {
    name: "a disk that is too small",
    victim: "receiver",
    codes: ["TARGET_FULL"],
    needsMount: true,
    before: ({ disk }) => mount(disk, `size=${4 * MiB}`),
    mend: ({ disk }) => mount(disk, `size=${DISK_BYTES}`),
  },
  {
    name: "a disk that fills on the way",
    victim: "receiver",
    codes: ["TARGET_FULL"],
    needsMount: true,
    during: fill,
    mend: (place) => rm(filler(place)),
  },
  {
    name: "a read-only disk",
    victim: "receiver",
    codes: ["TARGET_WRITE"],
    needsMount: true,
    before: ({ disk }) => mount(disk, "ro"),
    mend: ({ disk }) => mount(disk, "rw"),
  },
  {
    name: "a target folder that is removed",
    victim: "receiver",
    codes: ["TARGET_WRITE"],
    during: ({ target }) => rm(dirname(target), { recursive: true }),
    mend: async ({ target }) => void (await mkdir(dirname(target))),
  },
  {
    name: "a part file that is removed",
    victim: "receiver",
    codes: ["TARGET_WRITE"],
    during: ({ target }) => rm(`${target}${PART_SUFFIX}`),
  },
  {
    name: "a target that somebody else makes",
    victim: "receiver",
    codes: ["TARGET_EXISTS"],
    during: ({ target }) => writeFile(target, "mine"),
    mend: ({ target }) => rm(target),
    leaves: "mine",
  },
  {
    name: "a source that is written to",
    victim: "sender",
    codes: ["SOURCE_CHANGED"],
    during: async ({ source }) => {
      const file = await open(source, "r+");
      await file.write(new Float32Array(5000).fill(0.5), 0, 20_000, 5 * MiB);
      await file.close();
    },
  },
  {
    name: "a source that is replaced",
    victim: "sender",
    codes: ["SOURCE_CHANGED"],
    during: async ({ source }) => {
      await writeModel(`${source}.new`, LARGE, 1);
      await rename(`${source}.new`, source);
    },
  },
  {
    name: "a source that is cut off",
    victim: "sender",
    codes: ["SOURCE_CHANGED", "SOURCE_READ", "SOURCE_INVALID"],
    during: ({ source }) => truncate(source, 5 * MiB),
    mend: async ({ source }) => void (await writeModel(source, LARGE, 2)),
  },
  {
    name: "a source that is removed",
    victim: "sender",
    codes: ["SOURCE_CHANGED"],
    during: ({ source }) => rm(source),
    mend: async ({ source }) => void (await writeModel(source, LARGE, 3)),
  },
];
