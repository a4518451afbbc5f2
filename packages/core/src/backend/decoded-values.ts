/** A decoded chunk, as bytes to decode into and as the numbers they are. */
export interface DecodedValues {
  readonly bytes: Uint8Array;
  readonly values: Float32Array | Float64Array;
}

/** Room for one decoded chunk at a time, as large as the largest so far: a model's chunks are all of a size. */
export class DecodedRoom {
  #buffer = new ArrayBuffer(0);

  /** What an earlier call gave is overwritten. */
  take(dtype: "F32" | "F64", elements: number): DecodedValues {
    const bytes = elements * (dtype === "F64" ? 8 : 4);
    if (this.#buffer.byteLength < bytes) this.#buffer = new ArrayBuffer(bytes);
    const Values = dtype === "F64" ? Float64Array : Float32Array;
    return { bytes: new Uint8Array(this.#buffer, 0, bytes), values: new Values(this.#buffer, 0, elements) };
  }
}
