import { LinearCodec } from "./linear-codec.js";

export const linear2 = new LinearCodec(2);
export const linear3 = new LinearCodec(3);
export const linear4 = new LinearCodec(4);
export const linear5 = new LinearCodec(5);
export const linear6 = new LinearCodec(6);
export const linear7 = new LinearCodec(7);
export const linear8 = new LinearCodec(8);
