"""libcephfs behind a pipe: one JSON request a line on stdin, one JSON answer a line on stdout.

Run by the python3 of the Ceph release under test, perhaps in its chroot: the standard library only. Requests
are ``{"id": N, "op": NAME, "args": {...}}``, each in a thread of its own, so that one that waits for a cap holds up
nothing. Answers are ``{"id": N, "result": ...}`` or ``{"id": N, "errno": E, "error": TEXT}``. A name that is not UTF-8
travels as surrogate escapes, data as hex. Names, flags and masks are libcephfs.h's own.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import struct
import sys
import threading
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint, c_uint64, c_void_p

SETATTR_MTIME, SETATTR_ATIME = 1 << 3, 1 << 4
AT_SYMLINK_NOFOLLOW = 0x100


class Timespec(ctypes.Structure):
    _fields_ = [("sec", c_int64), ("nsec", ctypes.c_long)]

    @classmethod
    def of(cls, ns):
        return cls(*divmod(ns, 10**9))

    @property
    def ns(self):
        return self.sec * 10**9 + self.nsec


class Statx(ctypes.Structure):
    """``struct ceph_statx``, 136 bytes (cephfs/ceph_ll_client.h)."""

    _fields_ = [
        ("mask", ctypes.c_uint32),
        ("blksize", ctypes.c_uint32),
        ("nlink", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("mode", ctypes.c_uint16),
        ("ino", c_uint64),
        ("size", c_uint64),
        ("blocks", c_uint64),
        ("dev", c_uint64),
        ("rdev", c_uint64),
        ("atime", Timespec),
        ("ctime", Timespec),
        ("mtime", Timespec),
        ("btime", Timespec),
        ("version", c_uint64),
    ]

    def as_dict(self):
        values = {name: getattr(self, name) for name, _ in self._fields_}
        return {name: value.ns if isinstance(value, Timespec) else value for name, value in values.items()}


class Dirent(ctypes.Structure):
    """glibc's ``struct dirent`` on 64-bit Linux."""

    _fields_ = [
        ("ino", c_uint64),
        ("off", c_int64),
        ("reclen", ctypes.c_ushort),
        ("type", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    ]


FLOCK = "hhxxxxqqixxxx"
"""``struct flock`` on 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid."""

Mount = c_void_p
SIGNATURES = {  # libcephfs.h; each takes the mount first and returns int, save where `prepare` says otherwise
    "conf_read_file": (c_char_p,),
    "conf_set": (c_char_p, c_char_p),
    "select_filesystem": (c_char_p,),
    "init": (),
    "set_session_timeout": (c_uint,),
    "set_uuid": (c_char_p,),
    "start_reclaim": (c_char_p, c_uint),
    "finish_reclaim": (),
    "mount": (c_char_p,),
    "unmount": (),
    "release": (),
    "abort_conn": (),
    "get_instance_id": (),
    "sync_fs": (),
    "mkdir": (c_char_p, c_uint),
    "mkdirs": (c_char_p, c_uint),
    "rmdir": (c_char_p,),
    "unlink": (c_char_p,),
    "rename": (c_char_p, c_char_p),
    "link": (c_char_p, c_char_p),
    "symlink": (c_char_p, c_char_p),
    "readlink": (c_char_p, c_void_p, c_int64),
    "chmod": (c_char_p, c_uint),
    "chown": (c_char_p, c_int, c_int),
    "lchown": (c_char_p, c_int, c_int),
    "truncate": (c_char_p, c_int64),
    "setattrx": (c_char_p, POINTER(Statx), c_int, c_int),
    "statx": (c_char_p, POINTER(Statx), c_uint, c_uint),
    "opendir": (c_char_p, POINTER(c_void_p)),
    "readdirplus_r": (c_void_p, POINTER(Dirent), POINTER(Statx), c_uint, c_uint, c_void_p),
    "closedir": (c_void_p,),
    "lsetxattr": (c_char_p, c_char_p, c_char_p, c_size_t, c_int),
    "lgetxattr": (c_char_p, c_char_p, c_void_p, c_size_t),
    "llistxattr": (c_char_p, c_void_p, c_size_t),
    "lremovexattr": (c_char_p, c_char_p),
    "open": (c_char_p, c_int, c_uint),
    "close": (c_int,),
    "read": (c_int, c_void_p, c_int64, c_int64),
    "write": (c_int, c_char_p, c_int64, c_int64),
    "fsync": (c_int, c_int),
    "ftruncate": (c_int, c_int64),
    "fstatx": (c_int, POINTER(Statx), c_uint, c_uint),
    "flock": (c_int, c_int, c_uint64),
    "lazyio": (c_int, c_int),
    "lazyio_propagate": (c_int, c_int64, c_size_t),
    "lazyio_synchronize": (c_int, c_int64, c_size_t),
    "debug_get_fd_caps": (c_int,),
    "debug_get_file_caps": (c_char_p,),
    "mount_perms": (),
    "ll_walk": (c_char_p, POINTER(c_void_p), POINTER(Statx), c_uint, c_uint, c_void_p),
    "ll_open": (c_void_p, c_int, POINTER(c_void_p), c_void_p),
    "ll_close": (c_void_p,),
    "ll_put": (c_void_p,),
    "ll_setlk": (c_void_p, c_char_p, c_uint64, c_int),
    "ll_getlk": (c_void_p, c_char_p, c_uint64),
}


def prepare():
    library = ctypes.CDLL("libcephfs.so.2")
    library.ceph_create.argtypes = [POINTER(Mount), c_char_p]
    for name, types in SIGNATURES.items():
        getattr(library, f"ceph_{name}").argtypes = [Mount, *types]
    library.ceph_get_instance_id.restype = c_uint64
    library.ceph_read.restype = library.ceph_write.restype = c_int
    library.ceph_mount_perms.restype = c_void_p
    for name in ("set_session_timeout", "set_uuid", "finish_reclaim"):
        getattr(library, f"ceph_{name}").restype = None
    return library


def raw(text):
    return text.encode("utf-8", "surrogateescape")


def text(name):
    return name.decode("utf-8", "surrogateescape")


class Peer:
    """The operations; a method's name is the request's ``op``, its parameters the ``args``."""

    def __init__(self):
        self._library = prepare()
        self._mount = Mount()
        self._locks = {}

    def _call(self, name, *args):
        result = getattr(self._library, f"ceph_{name}")(self._mount, *args)
        if isinstance(result, int) and result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def _fill(self, name, *args, size):
        """What a call wrote into a buffer that it takes as its last but one argument, the size after it."""
        buffer = ctypes.create_string_buffer(size)
        length = self._call(name, *args, buffer, size)
        return buffer.raw[:length]

    # The mount

    def mount(self, conf, client_id, fs, root, options, uuid=None):
        result = self._library.ceph_create(byref(self._mount), raw(client_id))
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        self._call("conf_read_file", raw(conf))
        for option, value in options.items():
            self._call("conf_set", raw(option), raw(value))
        if fs is not None:
            self._call("select_filesystem", raw(fs))
        if uuid is not None:
            self._call("init")  # else there is no client to take it
            self._call("set_uuid", raw(uuid))
        self._call("mount", raw(root))
        return self._call("get_instance_id")

    def unmount(self):
        self._call("unmount")
        self._call("release")

    def abort_conn(self):
        self._call("abort_conn")

    def sync_fs(self):
        self._call("sync_fs")

    def start_reclaim(self, uuid, flags):
        self._call("start_reclaim", raw(uuid), flags)

    def finish_reclaim(self):
        self._call("finish_reclaim")

    # Names

    def mkdir(self, path, mode):
        self._call("mkdir", raw(path), mode)

    def mkdirs(self, path, mode):
        self._call("mkdirs", raw(path), mode)

    def rmdir(self, path):
        self._call("rmdir", raw(path))

    def unlink(self, path):
        self._call("unlink", raw(path))

    def rename(self, source, target):
        self._call("rename", raw(source), raw(target))

    def link(self, existing, path):
        self._call("link", raw(existing), raw(path))

    def symlink(self, target, path):
        self._call("symlink", raw(target), raw(path))

    def readlink(self, path):
        return text(self._fill("readlink", raw(path), size=4096))

    def readdir(self, path, want=0):
        """Names with inode numbers, ``.`` and ``..`` left out; with ``want`` each has a stat too."""
        directory, entries = c_void_p(), []
        self._call("opendir", raw(path), byref(directory))
        try:
            entry, stat = Dirent(), Statx()
            while self._call("readdirplus_r", directory, byref(entry), byref(stat), want, 0, None):
                if entry.name not in (b".", b".."):
                    found = {"name": text(entry.name), "ino": entry.ino, "type": entry.type}
                    entries.append({**found, "stat": stat.as_dict()} if want else found)
        finally:
            self._call("closedir", directory)
        return entries

    # Attributes

    def chmod(self, path, mode):
        self._call("chmod", raw(path), mode)

    def chown(self, path, uid, gid, follow):
        self._call("chown" if follow else "lchown", raw(path), uid, gid)

    def truncate(self, path, size):
        self._call("truncate", raw(path), size)

    def utimes(self, path, atime, mtime, follow):
        stat, mask = Statx(), 0
        if atime is not None:
            stat.atime, mask = Timespec.of(atime), mask | SETATTR_ATIME
        if mtime is not None:
            stat.mtime, mask = Timespec.of(mtime), mask | SETATTR_MTIME
        self._call("setattrx", raw(path), byref(stat), mask, 0 if follow else AT_SYMLINK_NOFOLLOW)

    def statx(self, path, want, flags):
        stat = Statx()
        self._call("statx", raw(path), byref(stat), want, flags)
        return stat.as_dict()

    def statx_many(self, paths, want, flags):
        return [self._statx_or_none(path, want, flags) for path in paths]

    def _statx_or_none(self, path, want, flags):
        try:
            return self.statx(path, want, flags)
        except FileNotFoundError:
            return None

    def setxattr(self, path, name, value, flags):
        data = bytes.fromhex(value)
        self._call("lsetxattr", raw(path), raw(name), data, len(data), flags)

    def getxattr(self, path, name):
        return self._fill("lgetxattr", raw(path), raw(name), size=1 << 16).hex()

    def listxattr(self, path):
        return [text(name) for name in self._fill("llistxattr", raw(path), size=1 << 16).split(b"\0") if name]

    def removexattr(self, path, name):
        self._call("lremovexattr", raw(path), raw(name))

    # Open files

    def open(self, path, flags, mode):
        return self._call("open", raw(path), flags, mode)

    def close(self, fd):
        self._call("close", fd)

    def read(self, fd, offset, size):
        data = ctypes.create_string_buffer(size)
        length = self._call("read", fd, data, size, offset)
        return data.raw[:length].hex()

    def write(self, fd, offset, data):
        return self._write(fd, offset, bytes.fromhex(data))

    def _write(self, fd, offset, data):
        done = 0
        while done < len(data):
            done += self._call("write", fd, data[done:], len(data) - done, offset + done)
        return done

    def fsync(self, fd, datasync):
        self._call("fsync", fd, datasync)

    def ftruncate(self, fd, size):
        self._call("ftruncate", fd, size)

    def fstatx(self, fd, want, flags):
        stat = Statx()
        self._call("fstatx", fd, byref(stat), want, flags)
        return stat.as_dict()

    def write_file(self, path, data, size, mode):
        """Create or replace a file with ``data``, or with ``size`` bytes ``x``, and close it."""
        fd = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            if data is not None:
                return self._write(fd, 0, bytes.fromhex(data))
            block, offset = b"x" * min(size, 1 << 22), 0
            while offset < size:
                offset += self._write(fd, offset, block[: size - offset])
            return offset
        finally:
            self.close(fd)

    def read_file(self, path):
        fd = self.open(path, os.O_RDONLY, 0)
        try:
            parts, offset = [], 0
            while part := bytes.fromhex(self.read(fd, offset, 1 << 22)):
                parts.append(part)
                offset += len(part)
            return b"".join(parts).hex()
        finally:
            self.close(fd)

    def churn(self, folder, seconds):
        """Create files, set their modes and times, one after the other; gives how many."""
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            path = f"{folder}/{number}"
            self.close(self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            self.chmod(path, 0o600)
            self.utimes(path, 10**18, 10**18 + number, True)
            number += 1
        return number

    # Caps, locks, lazy I/O

    def caps(self, path):
        return self._call("debug_get_file_caps", raw(path))

    def fd_caps(self, fd):
        return self._call("debug_get_fd_caps", fd)

    def flock(self, fd, operation, owner):
        self._call("flock", fd, operation, owner)

    def setlk(self, path, kind, start, length, owner, wait):
        """A byte-range lock; the file stays open for it until all of it is unlocked."""
        inode, handle = self._lock_handle(path)
        flock = struct.pack(FLOCK, kind, os.SEEK_SET, start, length, os.getpid())
        self._call("ll_setlk", handle, flock, owner, wait)
        if kind == fcntl.F_UNLCK and not start and not length:
            del self._locks[path]
            self._call("ll_close", handle)
            self._call("ll_put", inode)

    def getlk(self, path, kind, start, length, owner):
        """The lock in the way: its kind (F_UNLCK for none), start, length and pid."""
        _, handle = self._lock_handle(path)
        flock = ctypes.create_string_buffer(struct.pack(FLOCK, kind, os.SEEK_SET, start, length, os.getpid()))
        self._call("ll_getlk", handle, flock, owner)
        kind, _, start, length, pid = struct.unpack(FLOCK, flock.raw[: struct.calcsize(FLOCK)])
        return kind, start, length, pid

    def _lock_handle(self, path):
        if path not in self._locks:
            inode, handle, stat, perms = c_void_p(), c_void_p(), Statx(), self._call("mount_perms")
            self._call("ll_walk", raw(path), byref(inode), byref(stat), 0, 0, perms)
            self._call("ll_open", inode, os.O_RDWR, byref(handle), perms)
            self._locks[path] = inode, handle
        return self._locks[path]

    def lazyio(self, fd, enable):
        self._call("lazyio", fd, enable)

    def lazyio_propagate(self, fd, offset, count):
        self._call("lazyio_propagate", fd, offset, count)

    def lazyio_synchronize(self, fd, offset, count):
        self._call("lazyio_synchronize", fd, offset, count)


def serve():
    peer, answering = Peer(), threading.Lock()

    def answer(request):
        try:
            op = request["op"]
            if op.startswith("_"):
                raise AttributeError(op)
            reply = {"result": getattr(peer, op)(**request["args"])}
        except OSError as error:
            reply = {"errno": error.errno, "error": error.strerror}
        except Exception as error:
            reply = {"errno": None, "error": repr(error)}
        with answering:
            print(json.dumps({"id": request["id"], **reply}), flush=True)

    for line in sys.stdin:
        threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
    # Whoever asked is gone: leave at once, as a client that dies; a clean leave was an unmount before this.
    os._exit(0)


if __name__ == "__main__":
    serve()
