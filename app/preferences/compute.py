"""What models are computed on: the choice, what there is to choose from, and why not from more."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app import theme
from app.context import AppContext
from app.preferences.setting_row import SettingRow
from app.widgets import Card, SecondaryButton, Select, body, column, row, second
from engine.hardware import Computer
from engine.processes import AUTO, CPU

WIDEST_PX = 240


class ComputeCard(Card):
    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self.device_control = Select("Compute on")
        self.device_control.setMaximumWidth(WIDEST_PX)
        self.device_control.activated.connect(
            lambda i: context.settings.update(device=self.device_control.itemData(i))
        )
        words = (
            "Automatic takes the best that works here, else the processor."
            " Counts from the next load on."
        )
        self.body.addWidget(SettingRow(context, "device", "Compute on", words, self.device_control))
        self.try_again_button: SecondaryButton | None = None
        self._lines = QVBoxLayout()
        self._lines.setSpacing(theme.SPACE_8)
        self.body.addLayout(self._lines)
        context.settings.changed.connect(self._show_choices)
        context.computer.looked.connect(self._show)
        self._show()

    def _show(self) -> None:
        self._show_choices()
        while item := self._lines.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        self.try_again_button = None
        computer = self._context.computer
        if computer.found:
            self._show_devices(computer.found)
        else:
            self._lines.addWidget(second("Looking at what there is here..."))

    def _show_choices(self) -> None:
        control, chosen = self.device_control, self._context.settings.value.device
        found = self._context.computer.found
        control.clear()
        control.addItem("Automatic", AUTO)
        control.addItem("Processor only", CPU)
        devices = found.graphics.devices if found else ()
        names = [device.short_name for device in devices]
        for device, name in zip(devices, names, strict=True):
            is_twice = names.count(name) > 1  # by two backends, say
            control.addItem(f"{name} ({device.name})" if is_twice else name, device.name)
        index = control.findData(chosen, flags=Qt.MatchFlag.MatchFixedString)
        if index < 0:
            control.addItem(f"{chosen} (not here)" if found else chosen, chosen)
            index = control.count() - 1
        control.setCurrentIndex(index)

    def _show_devices(self, found: Computer) -> None:
        """A line for each device, and for each backend that there is none of."""
        cpu = found.cpu
        words = ", ".join([f"Processor, {cpu.physical_cores} cores", *cpu.instruction_sets[-1:]])
        if found.cpu_variant:
            words += f", llama.cpp's variant for {found.cpu_variant}"
        self._lines.addWidget(_line(_device(cpu.model, words)))
        used = {device.name for device in found.devices}
        for device in found.graphics.devices:
            words = device.about() if device.name in used else f"Not used. {device.about()}"
            self._lines.addWidget(_line(_device(device.description, words)))
        for unused in found.graphics.unused:
            button = None
            if unused.is_quarantined and self.try_again_button is None:
                button = self.try_again_button = SecondaryButton("Try again")
                button.clicked.connect(self._on_try_again_clicked)
            self._lines.addWidget(_line(second(unused.reason), button))

    def _on_try_again_clicked(self) -> None:
        assert self.try_again_button
        self.try_again_button.setEnabled(False)
        self._context.computer.try_again()


def _device(name: str, words: str) -> QWidget:
    device = QWidget()
    device.setLayout(column(body(name), second(words), spacing=2))
    return device


def _line(words: QWidget, button: QWidget | None = None) -> QWidget:
    line = row(spacing=theme.SPACE_12)
    line.addWidget(words, 1)
    if button:
        line.addWidget(button, 0, Qt.AlignmentFlag.AlignVCenter)
    whole = QWidget()
    whole.setLayout(line)
    return whole
