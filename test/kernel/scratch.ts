/** Single programs in the kernel that leave what they find in the one value of an array map. */
import { assemble } from '../../src/isa/assembler.ts';
import { encode } from '../../src/isa/codec.ts';
import { loadKernelProgram } from '../../src/kernel/load.ts';
import { KernelMap } from '../../src/kernel/map.ts';
import { PROGRAM_TYPE } from '../../src/kernel/uapi.ts';
import { programFromInstructions } from '../../src/object/from-instructions.ts';
import { judgeCode, kernelMissing, mapSpec } from './support.ts';

type Type = keyof typeof PROGRAM_TYPE;
const BPF_F_RDONLY_PROG = 1 << 7;
const KEY = new Uint8Array(4);
const NO_MAPS: ReadonlyMap<string, KernelMap> = new Map();

interface TestRun {
  readonly result: number;
  /** Metadata, then the packet. */
  readonly packet: Uint8Array;
  /** What the program left in its map. */
  readonly value: Uint8Array;
}

class Scratch {
  readonly #map: KernelMap;
  readonly #constants: KernelMap[] = [];

  constructor(valueBytes: number) {
    this.#map = new KernelMap(mapSpec({ valueSize: valueBytes }));
  }

  /** The map's descriptor, for programs that name it as map_fd[...]. */
  get mapFd(): number {
    return this.#map.fd;
  }

  /** The verifier's log for a program that it refuses, undefined for one that it takes. */
  refusal(type: Type, text: string, license = 'GPL'): string | undefined {
    const { accepted, log } = judgeCode(encode(assemble(text)), { type: PROGRAM_TYPE[type], license });
    return accepted ? undefined : log;
  }

  /** A read-only array map of one value, as the kernel wants constant strings. @returns its descriptor */
  constant(value: Uint8Array): number {
    const map = new KernelMap(
      mapSpec({ valueSize: value.length, flags: BPF_F_RDONLY_PROG, contents: [{ key: 0, value }], frozen: true }),
    );
    this.#constants.push(map);
    return map.fd;
  }

  /** Runs a program once, from a map of zeros. */
  run(type: Type, text: string, packet: Uint8Array): TestRun {
    const spec = programFromInstructions({ name: 'scratch', type, insns: assemble(text) });
    const program = loadKernelProgram(spec, NO_MAPS);
    try {
      this.#map.update(KEY, new Uint8Array(this.#map.valueBytes));
      const { returnValue, data, metadata } = program.run(packet);
      const whole = Uint8Array.from([...metadata, ...data]);
      return { result: Number(returnValue), packet: whole, value: this.#map.lookup(KEY)! };
    } finally {
      program.dispose();
    }
  }

  dispose(): void {
    for (const map of [this.#map, ...this.#constants.splice(0)]) map.dispose();
  }
}

/** @returns undefined where the kernel does not let us; throws in CI instead */
export function openScratch(valueBytes: number): Scratch | undefined {
  return kernelMissing() === undefined ? new Scratch(valueBytes) : undefined;
}
