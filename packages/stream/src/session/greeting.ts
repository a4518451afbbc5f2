import {
  encodeFrame,
  encodeJson,
  FrameType,
  type Hello,
  HelloSchema,
  PREAMBLE,
  PROTOCOL_VERSION,
  parseJson,
  TensorwireError,
} from "@tensorwire/core";
import { deferred } from "./deferred.js";

/** HELLO both ways: what this side says, and whether the two can speak with each other. */
export class Greeting {
  readonly #hello = deferred<Hello>();
  #heard = false;

  constructor(private readonly own: Omit<Hello, "versions">) {}

  /** The peer's. */
  get hello(): Promise<Hello> {
    return this.#hello.promise;
  }

  /** Whether the peer's is here. */
  get heard(): boolean {
    return this.#heard;
  }

  /** Ours, with which everything begins. @param idleTimeoutMs How long the peer may be silent. 0: for ever. */
  words(idleTimeoutMs: number): Uint8Array[] {
    const hello: Hello = {
      versions: [PROTOCOL_VERSION],
      ...this.own,
      ...(idleTimeoutMs > 0 && { idleTimeoutMs }),
    };
    return [PREAMBLE, encodeFrame(FrameType.HELLO, 0, 0, encodeJson(hello))];
  }

  /** @throws TensorwireError `PROTOCOL`, `VERSION_UNSUPPORTED`, `ROLE_CONFLICT`. */
  take(body: Uint8Array): Hello {
    const hello = parseJson(FrameType.HELLO, HelloSchema, body);
    if (!hello.versions.includes(PROTOCOL_VERSION)) {
      throw new TensorwireError(
        "VERSION_UNSUPPORTED",
        `the peer (${hello.software}) speaks versions ${hello.versions}, this side speaks ${PROTOCOL_VERSION}`,
      );
    }
    const { role } = this.own;
    if (role !== "any" && role === hello.role) {
      throw new TensorwireError(
        "ROLE_CONFLICT",
        `both ends want to ${role}: start one to send and one to receive`,
      );
    }
    this.#heard = true;
    this.#hello.resolve(hello);
    return hello;
  }

  /** Nothing will be heard any more. */
  fail(error: TensorwireError): void {
    this.#hello.reject(error);
  }
}
