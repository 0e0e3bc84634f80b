// The part of msgpack that a plugin needs: https://github.com/msgpack/msgpack/blob/master/spec.md
'use strict';

exports.pack = function pack(value) {
  if (value === null || value === undefined) return Buffer.of(0xc0);
  if (typeof value === 'boolean') return Buffer.of(value ? 0xc3 : 0xc2);
  if (typeof value === 'number') {
    if (Number.isInteger(value) && value >= 0 && value < 128) return Buffer.of(value);
    const packed = Buffer.of(0xcb, 0, 0, 0, 0, 0, 0, 0, 0);
    if (Number.isSafeInteger(value)) { packed[0] = 0xd3; packed.writeBigInt64BE(BigInt(value), 1); }
    else packed.writeDoubleBE(value, 1);
    return packed;
  }
  const head = (code, count) => { const h = Buffer.of(code, 0, 0, 0, 0); h.writeUInt32BE(count, 1); return h; };
  if (typeof value === 'string') { const text = Buffer.from(value); return Buffer.concat([head(0xdb, text.length), text]); }
  if (Array.isArray(value)) return Buffer.concat([head(0xdd, value.length), ...value.map(pack)]);
  const entries = Object.entries(value);
  return Buffer.concat([head(0xdf, entries.length), ...entries.flat().map(pack)]);
};

// Returns { value, end }, or null where the message is not complete.
exports.unpack = function unpack(buffer) {
  let at = 0;
  const take = (size) => { at += size; if (at > buffer.length) throw new RangeError(); return at - size; };
  const number = (size) => { const from = take(size); return size === 8 ? Number(buffer.readBigUInt64BE(from)) : buffer.readUIntBE(from, size); };
  const text = (size) => buffer.toString('utf8', take(size), at);
  const array = (size) => Array.from({ length: size }, item);
  const map = (size) => Object.fromEntries(Array.from({ length: size }, () => [item(), item()]));
  function item() {
    const code = number(1);
    if (code < 0x80) return code;
    if (code < 0x90) return map(code & 15);
    if (code < 0xa0) return array(code & 15);
    if (code < 0xc0) return text(code & 31);
    if (code >= 0xe0) return code - 256;
    switch (code) {
      case 0xc0: return null;
      case 0xc2: case 0xc3: return code === 0xc3;
      case 0xca: return buffer.readFloatBE(take(4));
      case 0xcb: return buffer.readDoubleBE(take(8));
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return number(1 << (code - 0xcc));
      case 0xd0: return buffer.readInt8(take(1));
      case 0xd1: return buffer.readInt16BE(take(2));
      case 0xd2: return buffer.readInt32BE(take(4));
      case 0xd3: return Number(buffer.readBigInt64BE(take(8)));
      case 0xc4: case 0xc5: case 0xc6: { const size = number(1 << (code - 0xc4)); return buffer.subarray(take(size), at); }
      case 0xd9: case 0xda: case 0xdb: return text(number(1 << (code - 0xd9)));
      case 0xdc: case 0xdd: return array(number(code === 0xdc ? 2 : 4));
      case 0xde: case 0xdf: return map(number(code === 0xde ? 2 : 4));
    }
    throw new Error(`a byte that a plugin is never sent: ${code}`);
  }
  try { return { value: item(), end: at }; }
  catch (error) { if (error instanceof RangeError) return null; throw error; }
};
