"""Which driver each of Vulkan's devices has, by Vulkan's loader. May crash, as drivers may."""

from __future__ import annotations

import ctypes
import sys

_VERSION_1_2 = 1 << 22 | 2 << 12
_APPLICATION_INFO, _INSTANCE_CREATE_INFO = 0, 1
_PROPERTIES_2, _DRIVER_PROPERTIES = 1000059001, 1000196000


class _ApplicationInfo(ctypes.Structure):
    """`VkApplicationInfo` of vulkan_core.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_uint32),
        ("api_version", ctypes.c_uint32),
    )


class _InstanceCreateInfo(ctypes.Structure):
    """`VkInstanceCreateInfo`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(_ApplicationInfo)),
        ("n_layers", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("n_extensions", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


class _DriverProperties(ctypes.Structure):
    """`VkPhysicalDeviceDriverProperties`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("id", ctypes.c_int),
        ("name", ctypes.c_char * 256),
        ("info", ctypes.c_char * 256),
        ("conformance", ctypes.c_uint8 * 4),
    )


class _Properties2(ctypes.Structure):
    """`VkPhysicalDeviceProperties2`, of which what follows the name is room for the rest."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.POINTER(_DriverProperties)),
        ("api_version", ctypes.c_uint32),
        ("driver_version", ctypes.c_uint32),
        ("vendor", ctypes.c_uint32),
        ("device", ctypes.c_uint32),
        ("kind", ctypes.c_int),
        ("name", ctypes.c_char * 256),
        ("rest", ctypes.c_uint64 * 256),
    )


def drivers() -> dict[str, str]:
    """Each device's driver with its version, by the device's name; empty without Vulkan 1.2."""
    try:
        vulkan = ctypes.CDLL("vulkan-1.dll" if sys.platform == "win32" else "libvulkan.so.1")
    except OSError:
        return {}
    application = _ApplicationInfo(type=_APPLICATION_INFO, api_version=_VERSION_1_2)
    create = _InstanceCreateInfo(
        type=_INSTANCE_CREATE_INFO, application=ctypes.pointer(application)
    )
    instance = ctypes.c_void_p()
    if vulkan.vkCreateInstance(ctypes.byref(create), None, ctypes.byref(instance)):
        return {}
    count = ctypes.c_uint32()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    handles = (ctypes.c_void_p * count.value)()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
    found = {}
    for handle in handles:
        driver = _DriverProperties(type=_DRIVER_PROPERTIES)
        properties = _Properties2(type=_PROPERTIES_2, next=ctypes.pointer(driver))
        vulkan.vkGetPhysicalDeviceProperties2(ctypes.c_void_p(handle), ctypes.byref(properties))
        words = f"{driver.name.decode(errors='replace')} {driver.info.decode(errors='replace')}"
        found[properties.name.decode(errors="replace")] = words.strip()
    vulkan.vkDestroyInstance(instance, None)
    return found
