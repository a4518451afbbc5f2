import { type Limits, type SourceState, TensorwireError } from "@tensorwire/core";

/** A manifest that came before anybody here asked for one. */
export interface WaitingManifest {
  readonly transfer: number;
  readonly body: Uint8Array;
  /** What its sender said of the source before. */
  readonly source: SourceState;
}

// A peer may announce this many transfers before anybody here asks for one.
const MAX_WAITING = 16;

/** Transfers that the peer has announced and nobody here has taken yet, in their order. All together stay within one manifest's limit. */
export class WaitingManifests {
  readonly #manifests: WaitingManifest[] = [];
  #bytes = 0;

  constructor(private readonly limits: Limits) {}

  /** One more is coming, and nobody asks for it. @throws TensorwireError `LIMIT_EXCEEDED`. */
  admit(bytes: number): void {
    if (this.#manifests.length >= MAX_WAITING) {
      throw new TensorwireError("LIMIT_EXCEEDED", `${MAX_WAITING} transfers wait for a receiver already`);
    }
    const { maxManifestBytes } = this.limits;
    if (this.#bytes + bytes <= maxManifestBytes) return;
    const message = `manifests of ${this.#bytes + bytes} bytes wait for a receiver, over the limit maxManifestBytes = ${maxManifestBytes}`;
    throw new TensorwireError("LIMIT_EXCEEDED", message);
  }

  has(transfer: number): boolean {
    return this.#manifests.some((manifest) => manifest.transfer === transfer);
  }

  add(manifest: WaitingManifest): void {
    this.#manifests.push(manifest);
    this.#bytes += manifest.body.length;
  }

  /** The first of them, which waits no more. */
  take(): WaitingManifest | undefined {
    const manifest = this.#manifests.shift();
    this.#bytes -= manifest?.body.length ?? 0;
    return manifest;
  }

  /** Its sender gave it up. */
  cancel(transfer: number): void {
    const at = this.#manifests.findIndex((manifest) => manifest.transfer === transfer);
    if (at >= 0) this.#bytes -= this.#manifests.splice(at, 1)[0]!.body.length;
  }
}
