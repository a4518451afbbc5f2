import { LinearCodec } from "./linear-codec.js";

/** Uniform levels in 2 bits an element. */
export const linear2 = new LinearCodec(2);
/** Uniform levels in 3 bits an element. */
export const linear3 = new LinearCodec(3);
/** Uniform levels in 4 bits an element. */
export const linear4 = new LinearCodec(4);
/** Uniform levels in 5 bits an element. */
export const linear5 = new LinearCodec(5);
/** Uniform levels in 6 bits an element. */
export const linear6 = new LinearCodec(6);
/** Uniform levels in 7 bits an element. */
export const linear7 = new LinearCodec(7);
/** Uniform levels in 8 bits an element. */
export const linear8 = new LinearCodec(8);
