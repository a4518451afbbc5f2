import { expect } from "vitest";
import { TensorwireError } from "../src/errors.js";

/** What reading a header or an index that is wrong throws. */
export function faultOf(run: () => unknown, code = "SOURCE_INVALID"): TensorwireError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(TensorwireError);
    expect(error).toMatchObject({ code });
    return error as TensorwireError;
  }
  throw new Error("nothing was thrown");
}
