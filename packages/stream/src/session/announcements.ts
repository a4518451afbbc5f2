import {
  type FrameHeader,
  FrameType,
  frameName,
  parseJson,
  type SourceState,
  SourceStateSchema,
  TensorwireError,
} from "@tensorwire/core";
import { deferred } from "./deferred.js";
import type { WaitingManifest } from "./waiting-manifests.js";

/** Transfers that the peer begins on a connection: SOURCE, if it has something to say of it, and MANIFEST. */
export class Announcements {
  readonly #first = deferred<void>();
  /** The peer's latest transfer: its ids only rise. */
  #latest = 0;
  /** What the peer has said of a source whose manifest is yet to come. */
  #source: { readonly transfer: number; readonly state: SourceState } | undefined;

  /** Resolves with the first manifest. */
  get first(): Promise<void> {
    return this.#first.promise;
  }

  /** The number of the latest transfer whose manifest has come. */
  get latest(): number {
    return this.#latest;
  }

  /** A transfer that begins: numbers rise, and SOURCE is followed by the MANIFEST of the same transfer. */
  check({ type, transfer }: FrameHeader): void {
    if (transfer <= this.#latest) {
      const message = `${frameName(type)} for transfer ${transfer} after ${this.#latest}`;
      throw new TensorwireError("PROTOCOL", message);
    }
    const source = this.#source;
    if (!source || (type === FrameType.MANIFEST && transfer === source.transfer)) return;
    const message = `${frameName(type)} for transfer ${transfer} after the SOURCE of ${source.transfer}`;
    throw new TensorwireError("PROTOCOL", message);
  }

  source(transfer: number, body: Uint8Array): void {
    const state = parseJson(FrameType.SOURCE, SourceStateSchema, body);
    this.#source = { transfer, state };
  }

  manifest(transfer: number, body: Uint8Array): WaitingManifest {
    const source = this.#source?.state ?? {};
    this.#source = undefined;
    const manifest = { transfer, body: body.slice(), source };
    this.#latest = transfer;
    this.#first.resolve();
    return manifest;
  }

  /** The peer gave up a transfer of which it had not said more than SOURCE. */
  withdraw(transfer: number): void {
    if (this.#source?.transfer === transfer) this.#source = undefined;
  }

  /** No manifest will come any more. */
  fail(error: TensorwireError): void {
    this.#first.reject(error);
  }
}
