/** BPF_OBJ_GET_INFO_BY_FD, and the struct it fills. */
import { Attr, Command, fixed, refusal } from './bpf.ts';

/**
 * @param size bytes of the struct
 * @param ask pointers and lengths of the arrays that the kernel is to fill, by writing into the struct
 * @returns the struct after the call
 * @throws KernelError `info_failed`
 */
export function objectInfo(fd: number, size: number, what: string, ask?: (info: DataView) => void): DataView {
  const bytes = fixed(size);
  const view = new DataView(bytes.buffer);
  ask?.(view);
  const outcome = new Attr().u32(0, fd).u32(4, size).pointer(8, bytes).call(Command.infoByFd);
  if (outcome.value < 0) throw refusal('info_failed', `information about ${what}`, outcome);
  return view;
}

/** The text in a fixed number of bytes, up to the first zero. */
export function text(info: DataView, offset: number, length: number): string {
  const bytes = new Uint8Array(info.buffer, info.byteOffset + offset, length);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.subarray(0, end < 0 ? length : end));
}
