import {
  asTensorwireError,
  DEFAULT_LIMITS,
  type FrameHeader,
  FrameParser,
  FrameType,
  frameName,
  type Hello,
  HelloSchema,
  type Loan,
  parseJson,
  TensorwireError,
} from "@tensorwire/core";
import { MAX_EARLY_BYTES } from "../channel/early-bytes.js";
import { type Deferred, deferred } from "../session/deferred.js";

/** Finds the HELLO with which a stream begins, and looks at nothing behind it. */
export class HelloReader {
  readonly #hello: Deferred<Hello> = deferred();
  readonly #parser = new FrameParser(
    {
      admit: ({ type, transfer, flags }: FrameHeader) => {
        if (type === FrameType.HELLO && transfer === 0 && flags === 0) return;
        throw new TensorwireError("PROTOCOL", `${frameName(type)} before HELLO`);
      },
      control: ({ type }: FrameHeader, body: Uint8Array) => {
        this.#parser.close();
        this.#hello.resolve(parseJson(type, HelloSchema, body));
      },
      lend: (): Loan | undefined => undefined,
      payload: () => {},
    },
    { ...DEFAULT_LIMITS, maxControlBytes: MAX_EARLY_BYTES },
  );

  get hello(): Promise<Hello> {
    return this.#hello.promise;
  }

  /** Looks at the next bytes. */
  push(portion: Uint8Array): void {
    try {
      this.#parser.push(portion);
    } catch (error) {
      this.fail(asTensorwireError(error, "INTERNAL"));
    }
  }

  /** No HELLO will come. */
  fail(error: TensorwireError): void {
    this.#parser.close();
    this.#hello.reject(error);
  }
}
