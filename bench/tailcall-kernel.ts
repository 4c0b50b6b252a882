/**
 * The same chains in the running kernel: sched_cls programs, run by BPF_PROG_TEST_RUN with a repeat count. The index of an
 * indirect site comes from the mark of the skb, which the kernel's verifier can't know; for random chains it is a linear
 * congruential generator's state, which each program steps on (about 2 ns of what is measured).
 */
import { assemble, KernelError, type KernelProgram } from '../src/index.ts';
import { loadKernelProgram } from '../src/kernel/load.ts';
import { KernelMap } from '../src/kernel/map.ts';
import { KernelProgArray } from '../src/kernel/prog-array.ts';
import { programFromInstructions } from '../src/object/from-instructions.ts';
import type { Chain } from './tailcall-chains.ts';

const PACKET_BYTES = 64;

export interface KernelChains {
  /**
   * @param programs each hops to the next
   * @param circle the last hops to the first, until the limit of 33 ends the run; else to a leaf
   */
  chain(site: 'indirect' | 'direct', programs: number, circle: boolean): Chain;
  /**
   * Each program hops to a random slot until the limit of 33 ends the run; with one slot, to a leaf.
   * @param slots a power of two; all are filled
   */
  random(slots: number, programs: number): Chain;
  close(): void;
}

/** @returns undefined where bpf(2) is not permitted. */
export function openKernel(): KernelChains | undefined {
  const owned: { dispose(): void }[] = [];
  const arrayOf = (entries: number): KernelProgArray => {
    const map = new KernelMap({
      name: 'chain',
      type: 'prog_array',
      keySize: 4,
      valueSize: 4,
      maxEntries: entries,
      flags: 0,
      contents: [],
    });
    owned.push(map);
    return new KernelProgArray(map, () => []);
  };
  try {
    arrayOf(1);
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  }
  const load = (text: string, { map }: KernelProgArray): KernelProgram => {
    const spec = programFromInstructions({ name: 'hop', type: 'sched_cls', insns: assemble(text) });
    return loadKernelProgram(spec, new Map([[map.spec.name, map]]));
  };
  const keep = (program: KernelProgram): KernelProgram => {
    owned.push(program);
    return program;
  };
  const runsOf = (entry: KernelProgram): Chain => {
    const packet = new Uint8Array(PACKET_BYTES);
    return { time: repeat => entry.run(packet, { repeat }).durationNs };
  };

  return {
    random(slots, programs) {
      const array = arrayOf(slots);
      const step = `r6 = r1
        r3 = *(u32 *)(r1 + 8)
        w3 *= 1664525
        w3 += 1013904223
        *(u32 *)(r1 + 8) = r3
        w3 >>= 11
        w3 &= ${slots - 1}
        r2 = map[chain] ll
        call 12
        r0 = 0
        exit`;
      const entry = keep(load(step, array));
      for (let i = 0; i < programs; i++) {
        const program = load(slots === 1 ? 'r0 = 0\nexit' : step, array);
        for (let slot = i; slot < slots; slot += programs) array.set(slot, program);
        // The array holds it.
        program.dispose();
      }
      return runsOf(entry);
    },
    chain(site, programs, circle) {
      const array = arrayOf(64);
      if (!circle) array.set(programs, keep(load('r0 = 0\nexit', array)));
      const hops = Array.from({ length: programs }, (_, i) => {
        const next = circle ? (i + 1) % programs : i + 1;
        const index = site === 'direct' ? `r3 = ${next}` : `r3 = *(u32 *)(r1 + 8)\nr3 += ${next}`;
        const hop = keep(load(`r6 = r1\n${index}\nr2 = map[chain] ll\ncall 12\nr0 = *(u32 *)(r6 + 0)\nexit`, array));
        array.set(i, hop);
        return hop;
      });
      return runsOf(hops[0]!);
    },
    close() {
      for (const each of owned) each.dispose();
    },
  };
}
