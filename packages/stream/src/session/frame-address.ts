import { type FrameHeader, FrameType, frameName, TensorwireError } from "@tensorwire/core";

/**
 * HELLO and PING belong to no transfer, and only a model's sender announces it.
 * @throws TensorwireError `PROTOCOL`.
 */
export function checkAddress({ type, transfer, flags }: FrameHeader): void {
  const ofChannel = type === FrameType.HELLO || type === FrameType.PING;
  const announces = type === FrameType.MANIFEST || type === FrameType.SOURCE;
  const wrong = ofChannel ? transfer !== 0 || flags !== 0 : announces && flags !== 0;
  if (wrong)
    throw new TensorwireError("PROTOCOL", `${frameName(type)} for transfer ${transfer}, flags ${flags}`);
}
