; Snug's installer for one user of Windows, without administrator rights.
; package.py runs makensis on it, with VERSION, TARGET, OUT, ICON, SIZE_KIB and FILES (what to pack and
; to delete again, as two macros) defined.

; makensis takes what is not defined yet for plain text, so these come before all that names them.
!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\Snug"
!define CLASSES "Software\Classes"

Unicode true
Target ${TARGET}
!include "MUI2.nsh"
!include "LogicLib.nsh"
!include "WinVer.nsh"
!include "${FILES}"

Name "Snug"
OutFile "${OUT}"
InstallDir "$LOCALAPPDATA\Programs\Snug"
InstallDirRegKey HKCU "${UNINSTALL}" "InstallLocation"
RequestExecutionLevel user
SetCompressor /SOLID lzma
ShowInstDetails nevershow
ShowUninstDetails nevershow
VIProductVersion "${VERSION}.0"
VIAddVersionKey "ProductName" "Snug"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "FileDescription" "Snug installer"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "LegalCopyright" "The Snug authors, MIT licence"

; The release workflow defines these where it has a certificate.
!ifdef SIGN
  !finalize '${SIGN} "%1"'
  !uninstfinalize '${SIGN} "%1"'
!endif

!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_ABORTWARNING
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!define MUI_FINISHPAGE_RUN "$INSTDIR\snug.exe"
!insertmacro MUI_PAGE_FINISH
!define MUI_COMPONENTSPAGE_NODESC
!insertmacro MUI_UNPAGE_COMPONENTS
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

; A program that runs cannot be written to. Silent: ends with 2, and nothing is changed.
!macro WaitUntilClosed PROGRAM
  ${Do}
    ${IfNot} ${FileExists} "${PROGRAM}"
      ${ExitDo}
    ${EndIf}
    ClearErrors
    FileOpen $0 "${PROGRAM}" a
    ${IfNot} ${Errors}
      FileClose $0
      ${ExitDo}
    ${EndIf}
    ${If} ${Cmd} `MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION \
        "Snug is open, or snug-engine in a terminal. Close it, then go on." /SD IDCANCEL IDCANCEL`
      SetErrorLevel 2
      Quit
    ${EndIf}
  ${Loop}
!macroend

; Both programs: the worker, snug-engine, may live a little longer than the window.
!macro WaitUntilAllClosed FOLDER
  !insertmacro WaitUntilClosed "${FOLDER}\snug.exe"
  !insertmacro WaitUntilClosed "${FOLDER}\snug-engine.exe"
!macroend

; A version in FOLDER takes away its own files, and nothing else that may lie there.
!macro RemoveVersion FOLDER
  ${If} ${FileExists} "${FOLDER}\uninstall.exe"
    ExecWait '"${FOLDER}\uninstall.exe" /S _?=${FOLDER}' $0
    ${If} $0 <> 0
      MessageBox MB_OK|MB_ICONSTOP "The older version of Snug could not be removed." /SD IDOK
      SetErrorLevel 4
      Quit
    ${EndIf}
    Delete "${FOLDER}\uninstall.exe"
    RMDir "${FOLDER}"
  ${EndIf}
!macroend

Function .onInit
  ; Qt 6 needs Windows 10, version 1809.
  ${IfNot} ${AtLeastBuild} 17763
    MessageBox MB_OK|MB_ICONSTOP "Snug needs Windows 10, version 1809, or newer." /SD IDOK
    SetErrorLevel 3
    Quit
  ${EndIf}
FunctionEnd

Section "Snug"
  ; The older version may lie in another folder than the one that is chosen now.
  ReadRegStr $1 HKCU "${UNINSTALL}" "InstallLocation"
  ${If} $1 == ""
    StrCpy $1 $INSTDIR
  ${EndIf}
  !insertmacro WaitUntilAllClosed $1
  !insertmacro WaitUntilAllClosed $INSTDIR
  !insertmacro RemoveVersion $1
  !insertmacro RemoveVersion $INSTDIR
  !insertmacro InstallFiles
  SetOutPath "$INSTDIR"
  WriteUninstaller "$INSTDIR\uninstall.exe"

  CreateShortcut "$SMPROGRAMS\Snug.lnk" "$INSTDIR\snug.exe"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayName" "Snug"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayIcon" "$INSTDIR\snug.exe"
  WriteRegStr HKCU "${UNINSTALL}" "Publisher" "The Snug authors"
  WriteRegStr HKCU "${UNINSTALL}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL}" "EstimatedSize" ${SIZE_KIB}
  WriteRegDWORD HKCU "${UNINSTALL}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL}" "NoRepair" 1

  WriteRegStr HKCU "Software\Microsoft\Windows\CurrentVersion\App Paths\snug.exe" "" "$INSTDIR\snug.exe"
  WriteRegStr HKCU "${CLASSES}\Snug.gguf" "" "Language model (GGUF)"
  WriteRegStr HKCU "${CLASSES}\Snug.gguf\DefaultIcon" "" "$INSTDIR\snug.exe,0"
  WriteRegStr HKCU "${CLASSES}\Snug.gguf\shell\open\command" "" '"$INSTDIR\snug.exe" "%1"'
  WriteRegStr HKCU "${CLASSES}\.gguf\OpenWithProgids" "Snug.gguf" ""
  ; Another program that opens these files already goes on doing so.
  ReadRegStr $0 HKCU "${CLASSES}\.gguf" ""
  ${If} $0 == ""
    WriteRegStr HKCU "${CLASSES}\.gguf" "" "Snug.gguf"
  ${EndIf}
  System::Call 'shell32::SHChangeNotify(i 0x08000000, i 0, p 0, p 0)'
SectionEnd

Section "un.Snug"
  SectionIn RO
  !insertmacro WaitUntilAllClosed $INSTDIR
  !insertmacro DeleteFiles
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  Delete "$SMPROGRAMS\Snug.lnk"
  DeleteRegKey HKCU "${UNINSTALL}"
  DeleteRegKey HKCU "Software\Microsoft\Windows\CurrentVersion\App Paths\snug.exe"
  DeleteRegKey HKCU "${CLASSES}\Snug.gguf"
  DeleteRegValue HKCU "${CLASSES}\.gguf\OpenWithProgids" "Snug.gguf"
  DeleteRegKey /ifempty HKCU "${CLASSES}\.gguf\OpenWithProgids"
  ReadRegStr $0 HKCU "${CLASSES}\.gguf" ""
  ${If} $0 == "Snug.gguf"
    DeleteRegValue HKCU "${CLASSES}\.gguf" ""
  ${EndIf}
  DeleteRegKey /ifempty HKCU "${CLASSES}\.gguf"
  System::Call 'shell32::SHChangeNotify(i 0x08000000, i 0, p 0, p 0)'
SectionEnd

Section /o "un.My conversations, settings and models"
  RMDir /r "$LOCALAPPDATA\snug"
SectionEnd
