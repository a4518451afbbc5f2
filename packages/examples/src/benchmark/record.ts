import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Machine } from "./machine.js";

export interface Skip {
  readonly what: string;
  readonly why: string;
}

/** What is kept of a section's last run, and of where it ran. */
export interface SectionRecord {
  readonly id: string;
  /** When it began: an ISO date. */
  readonly measured: string;
  readonly commit: string;
  readonly machine: Machine;
  readonly quick: boolean;
  readonly seconds: number;
  readonly skips: readonly Skip[];
  /** Why there is no data. */
  readonly failed?: string;
  readonly data?: object;
}

const pathOf = (folder: string, id: string): string => join(folder, `${id}.json`);

/** @returns undefined where the section was never measured. */
export async function readRecord(folder: string, id: string): Promise<SectionRecord | undefined> {
  try {
    return JSON.parse(await readFile(pathOf(folder, id), "utf8")) as SectionRecord;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

export async function writeRecord(folder: string, record: SectionRecord): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(pathOf(folder, record.id), `${JSON.stringify(record, undefined, 1)}\n`);
}
