import { type Loan, TensorwireError } from "@tensorwire/core";
import { DeviceLoan, deviceRun } from "./device-tensor.js";

/** A loan with several owners: it goes back when its first owner and everyone it lent a part to have released it. */
export class SharedLoan {
  #owners = 1;

  constructor(private readonly loan: Loan) {}

  get bytes(): Uint8Array {
    return this.loan.bytes;
  }

  /** Lends bytes `begin` to `end`. */
  part(begin: number, end: number): Loan {
    this.#owners++;
    let out = true;
    const release = (): void => {
      if (!out) throw new TensorwireError("INTERNAL", "a part of a buffer was released twice");
      out = false;
      this.release();
    };
    const { device } = this.loan;
    if (device) return new DeviceLoan(deviceRun(device, begin, end - begin), release);
    return { bytes: this.loan.bytes.subarray(begin, end), release };
  }

  /** The first owner needs it no more. */
  release(): void {
    if (--this.#owners === 0) this.loan.release();
  }
}
