import { createHash, hash } from "node:crypto";
import type { Manifest, Sha256 } from "@tensorwire/core";

/** SHA-256 by Node, on the thread that asks: of one part without a copy, and without an object that waits for more. */
export const sha256: Sha256 = (...parts) => {
  if (parts.length === 1) return hash("sha256", parts[0]!, "buffer");
  const all = createHash("sha256");
  for (const part of parts) all.update(part);
  return all.digest();
};

/** What hashes the chunks of a manifest besides xxh64. */
export function sha256Of({ integrity }: Pick<Manifest, "integrity">): Sha256 | undefined {
  return integrity === "sha256" ? sha256 : undefined;
}
