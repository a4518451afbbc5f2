import type { Authority } from "../certificates.js";

interface Hub {
  readonly plain: number;
  readonly secure: number;
}

export function tokenOf(name: string): string;
export function writeFiles(folder: string, authority: Authority): Promise<void>;
export function openHub(folder: string, authority: Authority): Promise<Hub & { close(): Promise<unknown> }>;
export function onThisMachine(
  code: string,
  where: Hub & { readonly port: number; readonly folder: string },
): string;
