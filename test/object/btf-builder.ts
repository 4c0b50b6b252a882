/** Writes BTF, well-formed or not, for tests. */
export class BtfBuilder {
  readonly #words: number[] = [];
  #strings = '\0';
  #count = 0;

  string(text: string): number {
    if (text === '') return 0;
    const offset = this.#strings.length;
    this.#strings += `${text}\0`;
    return offset;
  }

  /** @returns the new type's id. */
  add(
    kind: number,
    name: string,
    vlen: number,
    sizeOrType: number,
    tail: readonly number[] = [],
    flag = false,
  ): number {
    this.#words.push(this.string(name), ((flag ? 0x80000000 : 0) | (kind << 24) | vlen) >>> 0, sizeOrType, ...tail);
    return ++this.#count;
  }

  int(name: string, size: number, signed = false): number {
    return this.add(1, name, 0, size, [((signed ? 1 : 0) << 24) | (size * 8)]);
  }

  struct(
    name: string,
    size: number,
    members: readonly { readonly name: string; readonly type: number; readonly bitOffset: number }[],
  ): number {
    const tail = members.flatMap(member => [this.string(member.name), member.type, member.bitOffset]);
    return this.add(4, name, members.length, size, tail);
  }

  bytes(): Uint8Array {
    const strings = new TextEncoder().encode(this.#strings);
    const types = this.#words.length * 4;
    const bytes = new Uint8Array(24 + types + strings.length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, 0xeb9f, true);
    view.setUint8(2, 1);
    [24, 0, types, types, strings.length].forEach((word, i) => {
      view.setUint32(4 + i * 4, word, true);
    });
    this.#words.forEach((word, i) => {
      view.setUint32(24 + i * 4, word, true);
    });
    bytes.set(strings, 24 + types);
    return bytes;
  }
}
