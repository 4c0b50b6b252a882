/**
 * The running kernel as the oracle for whole objects: bpftool (that is libbpf, which we did not write) loads and pins
 * them, then the kernel room runs them on packets and reads their maps. Nothing is attached; what is pinned is removed.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import type { Collection, MapSpec, ProgramSpec } from '../../src/index.ts';
import { Attr, fixedText } from '../../src/kernel/bpf.ts';
import { KernelError } from '../../src/kernel/errors.ts';
import { loadIntoKernel } from '../../src/kernel/load.ts';
import { KernelMap } from '../../src/kernel/map.ts';
import { KernelProgram } from '../../src/kernel/program.ts';
import { kernelMissing } from '../kernel/support.ts';
import { requireTool } from '../tools.ts';
import { comparable, lines, type MapContents } from './observe.ts';

const BPF_OBJ_GET = 7;

interface KernelRun {
  readonly returnValue: bigint;
  /** Metadata, then the packet. */
  readonly bytes: Uint8Array;
  /** skb programs: the mark afterwards. */
  readonly mark: number | undefined;
}

interface KernelObject {
  run(program: string, packet: Uint8Array): KernelRun;
  contents(): MapContents;
  close(): void;
}

interface Kernel {
  /** The object, or the log of its refusal. */
  load(file: string, collection: Collection): KernelObject | string;
  /** The same for one program that was made without an object file, whose maps start empty. */
  loadProgram(program: ProgramSpec, maps: ReadonlyMap<string, MapSpec>): KernelObject | string;
}

/** @returns undefined where there is no bpftool or the kernel does not let us; throws instead in CI. */
export function openKernel(): Kernel | undefined {
  const bpftool = requireTool('bpftool');
  if (bpftool === undefined || kernelMissing() !== undefined) return undefined;
  let loads = 0;
  return {
    load(file, { programs, maps }) {
      const pins = `/sys/fs/bpf/switchyard-corpus-${process.pid}-${loads++}`;
      try {
        const { status, stdout, stderr } = spawnSync(
          bpftool,
          ['prog', 'loadall', file, pins, 'pinmaps', `${pins}-maps`],
          { encoding: 'utf8', maxBuffer: 1 << 28 },
        );
        if (status !== 0) return stdout + stderr;
        const held = new Map(
          [...programs].map(([name, spec]) => [
            name,
            new KernelProgram(spec, { fd: open(`${pins}/${name}`), log: '' }),
          ]),
        );
        const names = maps.size === 0 ? [] : readdirSync(`${pins}-maps`);
        // All of them are kept open: a prog array is emptied when nothing in user space holds it.
        const heldMaps = [...maps.values()].map(spec => {
          // Pins have underscores for dots, and data maps the object's name in front.
          const pinned = spec.name.replaceAll('.', '_');
          const name = names.find(
            candidate => candidate === pinned || (spec.name.startsWith('.') && candidate.endsWith(pinned)),
          );
          if (name === undefined) throw new Error(`map ${spec.name} is not among ${names.join(', ')}`);
          return new KernelMap(spec, undefined, open(`${pins}-maps/${name}`));
        });
        return kernelObject(held, heldMaps, () => {
          for (const each of [...held.values(), ...heldMaps]) each.dispose();
        });
      } finally {
        rmSync(pins, { recursive: true, force: true });
        rmSync(`${pins}-maps`, { recursive: true, force: true });
      }
    },

    loadProgram(program, maps) {
      const programs = new Map([[program.name, program]]);
      try {
        const object = loadIntoKernel({ programs, maps, license: program.license, btf: program.btf });
        return kernelObject(object.programs, [...object.maps.values()], () => object.dispose());
      } catch (error) {
        if (error instanceof KernelError && error.code === 'program_refused') return error.log;
        throw error;
      }
    },
  };
}

function open(path: string): number {
  const { value, errno } = new Attr().pointer(0, fixedText(path)).call(BPF_OBJ_GET);
  if (value < 0) throw new Error(`${path}: ${errno}`);
  return value;
}

function kernelObject(
  programs: ReadonlyMap<string, KernelProgram>,
  maps: readonly KernelMap[],
  close: () => void,
): KernelObject {
  return {
    run: (name, packet) => {
      const program = programs.get(name)!;
      const { returnValue, data, metadata, mark } = program.run(packet);
      const bytes = Uint8Array.from([...metadata, ...data]);
      return { returnValue, bytes, mark: program.type === 'xdp' ? undefined : mark };
    },
    contents: () =>
      Object.fromEntries(
        maps.filter(({ spec }) => comparable(spec)).map(map => [map.spec.name, lines(map.spec, entries(map))]),
      ),
    close,
  };
}

/** None of maps that cannot be walked through. */
function entries(map: KernelMap): [Uint8Array, Uint8Array][] {
  try {
    return [...map.entries()];
  } catch (error) {
    if (error instanceof KernelError && error.code === 'map_access_failed') return [];
    throw error;
  }
}
