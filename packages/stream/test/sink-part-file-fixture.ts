import { readFileSync } from "node:fs";

export const text = (path: string): string => readFileSync(path, "utf8");
export const bytes = (words: string): Uint8Array => new TextEncoder().encode(words);
